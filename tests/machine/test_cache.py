"""Where things are kept that were fetched or converted once."""

from pathlib import Path

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.machine.cache import cache_folder


def test_the_variable_then_the_systems_place_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SASRECLLM_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "sasrecllm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sasrecllm"
    monkeypatch.setenv("SASRECLLM_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_without_a_home_the_variable_is_named(monkeypatch):
    def nowhere():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SASRECLLM_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ConfigError, match="no home") as caught:
        cache_folder()
    assert "SASRECLLM_CACHE" in caught.value.remedy
