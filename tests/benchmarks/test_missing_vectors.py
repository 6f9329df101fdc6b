"""The table of what missing vectors tell, on a log in which they tell much."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.missing_vectors import row


def test_what_a_missing_vector_tells_is_evened_out(cli, tmp_path):
    """Everybody has items of his own, which drawn others seldom are: no vector means liked."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(40):
        for place in range(12):
            item = f"own{user}-{place}" if place % 4 == 0 else f"i{rng.integers(0, 400)}"
            lines.append(f"u{user},{item},{user * 100 + place}")
    (tmp_path / "log.csv").write_text("\n".join(lines))
    items = sorted({line.split(",")[1] for line in lines[1:]})
    (tmp_path / "items.csv").write_text("item_id,title\n" + "\n".join(f"{i},Title {i}" for i in items))
    words = (
        "data.source=files", f"data.path={tmp_path / 'log.csv'}", "data.feedback=implicit",
        f"data.items_path={tmp_path / 'items.csv'}", "data.split=leave-one-out", "encoder.folds=4",
    )  # fmt: skip
    cli("prepare", "-q", "--out", tmp_path / "shop", *words)
    name, questions, *told = [cell.strip() for cell in row(tmp_path / "shop").strip("|").split("|")]
    assert name == "shop" and questions == "2,000"
    liked, others, before, liked_after, others_after, after = told
    assert float(liked.rstrip("%")) > float(others.rstrip("%")) + 5 and float(before) > 0.53
    assert liked_after == others_after and float(after) == pytest.approx(0.5, abs=0.001)
