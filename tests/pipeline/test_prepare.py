"""A log of a user's own through the command line: what is odd is said, what cannot be is refused."""

import json
import random

import numpy as np
import pytest
import yaml

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json
from sasrecllm.data.dataset import Dataset

SMALL = {
    "strategy": "encoder-only",
    "encoder": {"width": 8, "length": 5, "folds": 0,
                "loop": {"epochs": 2, "batch_size": 4, "lr": 0.01, "warmup_steps": 1}},
    "evaluation": {"resamples": 100, "ablations": False},
}  # fmt: skip


@pytest.fixture
def own(tmp_path, cli):
    """``own(header, rows, *overrides, verb=...)``: runs a verb on a log of those rows."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))

    def call(header, rows, *overrides, verb="prepare", expect=0, out=tmp_path / "out"):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
        items = sorted({row[1] for row in rows})
        (tmp_path / "shelf.csv").write_text(
            "item_id,title\n" + "".join(f"{i},The {i}\n" for i in items)
        )
        return cli(
            verb, "--quiet", "--config", tmp_path / "small.yaml", "--out", out, "data.source=files",
            f"data.path={tmp_path / 'log.csv'}", f"data.items_path={tmp_path / 'shelf.csv'}",
            *overrides, expect=expect,
        )  # fmt: skip

    return call


def test_users_and_songs_alone_run_from_the_log_to_recommendations(own, cli, tmp_path):
    rng = random.Random(1)
    taste = {u: rng.sample(range(12), 4) for u in range(12)}
    rows = [(f"u{u}", f"s{rng.choice(taste[u]):02}") for _ in range(15) for u in range(12)]
    out = tmp_path / "out"
    own("user_id,item_id", rows, "data.negatives=2", verb="run", out=out)
    dataset = Dataset.load(out / "data")
    for u in range(12):
        theirs = dataset.items[dataset.users == dataset.catalog.user_index([f"u{u}"])[0]]
        assert [dataset.catalog.item_id(i) for i in theirs] == [i for v, i in rows if v == f"u{u}"]
    for place in ("log.txt", "report.html"):
        text = (out / place).read_text()
        assert "rows follow the order of the file: no timestamp or order column was found" in text
        assert "such items may be recommended again (recommend.seen=allow)" in text
    ranking = read_json(out / "results.json")["ranking"]
    assert ranking["whole catalogue"]["lists"] == 12 and ranking["whole catalogue"]["left_out"] == 0

    system = SASRecLLM.from_pretrained(out)
    heard = {i for v, i in rows if v == "u3"}
    assert {r.item_id for r in system.recommend(user="u3", k=12)} == set(system.catalog.item_ids)
    new = [r.item_id for r in system.recommend(user="u3", k=12, seen="exclude")]
    assert set(new) == set(system.catalog.item_ids) - heard
    users = tmp_path / "users.csv"
    users.write_text("user_id\nu3\n")
    for flags, expected in (((), 12), (("--seen", "exclude"), len(new))):
        lists = tmp_path / f"lists-{expected}.jsonl"
        cli("recommend", out, "--users", users, "-k", 12, "--out", lists, "--quiet", *flags)
        assert len(lists.read_text().splitlines()) == expected
    shown = json.loads(cli("recommend", out, "--user", "u3", "-k", 12, "--seen", "exclude", "--json"))
    assert {r["item_id"] for found in shown.values() for r in found} == set(new)


RATED = "user_id,item_id,rating,timestamp"


def rated(top: int, least: int = 0) -> list[tuple]:
    rng = random.Random(2)
    pairs = [(u, i) for u in range(8) for i in rng.sample(range(15), 8)]
    return [(f"u{u}", f"i{i}", max(least, round(rng.triangular(0, top, top))), n)
            for n, (u, i) in enumerate(rng.sample(pairs, len(pairs)))]  # fmt: skip


def test_a_warning_is_shown_on_a_quiet_terminal_and_its_setting_ends_it(own, tmp_path):
    said = own(RATED, rated(10), out=tmp_path / "a")
    assert "warning: " in said and "of them likes; set data.threshold=" in said
    assert "warning: " in (tmp_path / "a" / "log.txt").read_text()
    notes = read_json(tmp_path / "a" / "data" / "dataset.json")["notes"]
    assert next(note for note in notes if note.startswith("warning: ")) in said
    setting = said.split("set ")[1].split(",")[0]
    assert "data.threshold" not in own(RATED, rated(10), setting, out=tmp_path / "b")


def test_a_threshold_that_leaves_one_label_is_refused_with_one_that_does_not(own, tmp_path):
    said = own(RATED, rated(10), "data.threshold=1", expect=4)
    assert "all 7 valid rows have the label 1" in said
    setting = said.split("-> set ")[1].split(",")[0]
    own(RATED, rated(10), setting, out=tmp_path / "corrected")


@pytest.mark.parametrize("verb", ["prepare", "run"])
def test_what_cannot_be_trained_is_refused_before_anything_is_built(verb, own, tmp_path):
    one = [(u, i, 1, t) for u, i, _, t in rated(5)]
    header = "user_id,item_id,label,timestamp"
    said = own(header, one, "strategy=dual-stage", verb=verb, expect=4)
    assert "all 51 train rows have the label 1 (of 64 rows 64 are likes)" in said
    assert "-> set data.feedback=implicit" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "data").exists() and not (tmp_path / "out" / "llm").exists()
    own(header, one, "data.feedback=implicit", out=tmp_path / "corrected")


def test_ratings_without_times_are_split_by_the_order_of_the_file(own, tmp_path):
    own("user_id,item_id,rating", [row[:3] for row in rated(5)], "data.threshold=4")
    dataset = Dataset.load(tmp_path / "out" / "data")
    assert not dataset.has_times
    for name in ("valid", "test"):
        rows = dataset.rows(name)
        assert len(rows) == 8 and len(np.unique(dataset.labels[rows])) == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("data.split=leave_one_out", "did you mean 'leave-one-out'"),
        ("data.source=file", "did you mean 'files'"),
        ("device=cdua", "allowed: auto, cpu, cuda"),
        ("strategy=encoder_only", "did you mean 'encoder-only'"),
        ("strategy=[{name: a, task: encode, train: encoder, row: x}]", "train is 'encoder'"),
    ],
)
def test_a_misspelt_name_is_refused_before_anything_is_read_or_made(cli, tmp_path, setting, says):
    out = tmp_path / "out"
    for quick in ((), ("--quick",)):
        said = cli(
            "run", *quick, "--out", out, "data.source=files", "data.path=nowhere.csv", setting, expect=2
        )
        assert says in said and not out.exists()
