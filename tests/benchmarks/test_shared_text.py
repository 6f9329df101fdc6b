"""The table of shared text, of the tiny run's log and language model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.shared_text import rows

TINY = Path(__file__).parents[1] / "tiny.yaml"


def test_what_prompts_share_is_counted_whole_and_read(cli, run, tmp_path):
    out = tmp_path / "prepared"
    cli("prepare", "-q", "--config", TINY, "--out", out, f"llm.backbone={run / 'llm'}", "llm.history=3")
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows(out, 5)]
    assert [name for name, *_ in found] == ["training, steps of 5", "validation, steps of 5"]
    assert [int(count.replace(",", "")) > 0 for _, count, *_ in found] == [True, True]
    assert all(0 < int(read) < int(whole) for *_, whole, read in found), "users' prompts share titles"
