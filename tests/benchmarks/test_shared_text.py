"""The table of shared text, of the tiny run's log and language model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.shared_text import rows

TINY = Path(__file__).parents[1] / "tiny.yaml"


def test_what_prompts_share_is_counted_whole_and_read(cli, run, tmp_path):
    out = tmp_path / "prepared"
    cli("prepare", "-q", "--config", TINY, "--out", out, f"llm.backbone={run / 'llm'}", "llm.history=3")
    shared = counts(out, "short-text")
    listed = counts(out, "events-text")
    assert shared.keys() == listed.keys()
    for what, (whole, read) in shared.items():
        assert 0 < read < whole, "users' prompts share titles"
        assert 0 < listed[what][1] < listed[what][0], "and a list of events holds many of them"


def counts(out, template):
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows(out, template, 5)]
    assert [name for name, *_ in found] == [
        f"{x}, {template}, steps of 5" for x in ("training", "validation")
    ]
    assert all(int(count.replace(",", "")) > 0 for _, count, *_ in found)
    return {name.split(",")[0]: (int(whole), int(read)) for name, _, whole, read in found}
