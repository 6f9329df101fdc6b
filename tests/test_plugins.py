"""A name is a row of a table, or an object of a module that was named."""

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.plugins import resolve


def test_a_name_is_a_row_or_a_path_to_an_object():
    assert resolve("a", {"a": 1}) == 1
    assert resolve("math:floor", {})(2.5) == 2
    for name, says in (
        ("b", "allowed: alpha"),
        ("alhpa", "did you mean 'alpha'"),
        ("no.such:x", "imported"),
    ):
        with pytest.raises(ConfigError, match=says):
            resolve(name, {"alpha": 1}, "encoder.kind")
    with pytest.raises(ConfigError, match=r"allowed: package\.module:Name"):
        resolve("auc", {}, "evaluation.metrics")
