from __future__ import annotations

import pytest

from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.encoders.table import ENCODERS, build_encoder, refuse_arguments
from sasrecllm.errors import ConfigError


class Outside(SASRec):
    """A plug-in: somebody else's encoder."""

    kind = ""

    def __init__(self, *, scale: float = 1.0, **shared):
        super().__init__(**shared)
        self.scale = scale


def test_one_set_of_settings_builds_every_encoder():
    for kind in ENCODERS:
        encoder = build_encoder(kind, n_items=4, n_users=2, width=8, blocks=1, heads=2, length=3)
        assert encoder.config["kind"] == kind
        assert encoder.config["length"] == 3


def test_a_class_of_another_package_is_built_by_its_path():
    built = build_encoder("sasrecllm.encoders.sasrec:SASRec", n_items=4, width=8)
    assert isinstance(built, SASRec)


def test_a_plug_in_names_itself_by_its_path():
    kind = Outside(n_items=4, width=8).config["kind"]
    assert kind == f"{Outside.__module__}:Outside"


def test_unknown_kinds_and_arguments_are_refused_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'sasrec'"):
        build_encoder("sasrek", n_items=4)
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        build_encoder("mf", n_items=4, widht=8)


def test_a_plug_in_has_arguments_of_its_own():
    kind = Outside(n_items=4, width=8).config["kind"]
    refuse_arguments(kind, {"scale": 2.0})
    assert build_encoder(kind, n_items=4, width=8, heads=2, scale=2.0).scale == 2.0
    for name, says in (
        ("scael", "allowed for .*: scale; did you mean 'scale'"),
        ("width", "write encoder.width"),
        ("n_items", "comes from the data"),
    ):
        with pytest.raises(ConfigError, match=says):
            refuse_arguments(kind, [name])
    with pytest.raises(ConfigError, match="allowed for mf: none"):
        refuse_arguments("mf", ["scale"])
