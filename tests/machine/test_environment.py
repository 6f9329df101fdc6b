"""Versions that can change a result."""

from sasrecllm.machine.environment import versions


def test_versions_name_what_changes_results():
    assert {"python", "torch", "transformers", "peft", "numpy"} <= set(versions())
