"""Any damage to any file of a run: it is refused with exit 5, or no answer changes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import write_text
from sasrecllm.errors import CheckpointError, EnvironmentRefusal
from sasrecllm.manifest import MANIFEST, manifest_of
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import seal
from sasrecllm.serving.state import load_run

FOR_PEOPLE = {"log.txt", "results.md", "report.html", "plots", "quarantine.jsonl"}
"""What a run only writes: nothing in it is ever read again."""


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A run that is damaged and mended again and again, and its answers before."""
    folder = shutil.copytree(run, tmp_path_factory.mktemp("damage") / "run")
    return folder, answers(folder)


def answers(folder):
    """What a run says of a history and of a known user, every digit of it."""
    system = SASRecLLM.from_pretrained(folder)
    user = system.catalog.user_ids[3]
    return system.recommend(["m0003", ("m0005", False)], k=5), system.recommend(user=user, k=5)


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


# ------------------------------------------------------------------- what a disk does to files


def flipped(data, rng):
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return data


def zeroed(data, rng):
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 4097)))
    return data[:start] + bytes(stop - start) + data[stop:]


DAMAGES = {
    "a flipped bit": flipped,
    "zeros": zeroed,
    "cut": lambda data, rng: data[: rng.integers(len(data))],
    "longer": lambda data, rng: data + rng.bytes(int(rng.integers(1, 64))),
    "empty": lambda data, rng: b"",
    "gone": lambda data, rng: None,
}


def damage(folder, rng):
    """Damage one file of a run; (what was done, a function that mends it)."""
    path = files_of(folder)[rng.integers(len(files_of(folder)))]
    kind = list(DAMAGES)[rng.integers(len(DAMAGES))]
    before = path.read_bytes()
    after = DAMAGES[kind](bytearray(before), rng) if before else b"x"
    if after is None:
        path.unlink()
    else:
        path.write_bytes(bytes(after))
    return f"{kind}: {path.relative_to(folder)}", lambda: path.write_bytes(before)


def tally(whole, seed, count):
    """How often damage was refused and how often it changed nothing; anything else fails."""
    folder, before = whole
    rng = np.random.default_rng(seed)
    refused = harmless = 0
    for _ in range(count):
        what, mend = damage(folder, rng)
        try:
            assert answers(folder) == before, f"seed {seed}: {what}: other answers"
            harmless += 1
        except CheckpointError as error:
            assert error.exit_code == 5 and str(folder) in str(error), what
            refused += 1
        except Exception as error:  # whatever else it is, it is not what a user should see
            raise AssertionError(f"seed {seed}: {what}: {type(error).__name__}: {error}") from error
        finally:
            mend()
    assert answers(folder) == before
    return refused, harmless


def test_random_damage_is_refused_or_harmless(whole):
    refused, harmless = tally(whole, seed=0, count=40)
    assert refused >= 15 and harmless >= 5


@pytest.mark.soak
def test_600_random_damages_are_refused_or_harmless(whole):
    refused, harmless = tally(whole, seed=1, count=600)
    print(f"600 damages: {refused} refused, {harmless} harmless")


def test_a_flipped_bit_in_whatever_answers_are_made_of_is_refused(whole):
    """One in every file that a loaded system reads, where it is refused before anything is loaded."""
    folder, _ = whole
    read = [
        "llm/*",
        "prompts/*",
        "data/*",
        "stages/1-encoder/parts/encoder/*",
        "stages/4-soft/parts/*/*",
    ]
    read += ["stages/5-fusion/parts/fusion/*", "config.yaml", "results.json", "run.json", MANIFEST]
    found = [p for pattern in read for p in sorted(folder.glob(pattern))]
    assert len(found) > 15
    for path in found:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        before, _ = path.read_bytes(), path.write_bytes(bytes(data))
        with pytest.raises(CheckpointError):
            SASRecLLM.from_pretrained(folder)
        path.write_bytes(before)


def test_every_file_is_either_an_output_or_covered_by_a_manifest(whole):
    folder, _ = whole
    covered = set()
    for manifest in folder.rglob(MANIFEST):
        lines = manifest.read_text("utf-8").splitlines()
        covered |= {manifest.parent / line.partition("  ")[2] for line in lines}
    for path in files_of(folder):
        assert path in covered or path.relative_to(folder).parts[0] in FOR_PEOPLE, path


@pytest.mark.parametrize("verb", ["report", "evaluate"])
@pytest.mark.parametrize(
    "name",
    ["stages/2-text/stage.json", "stages/2-text/scores/weights.safetensors",
     "stages/2-text/metrics.jsonl", "showcase.json", "env.json",
     "data/interactions.parquet", "data/truth.json"],
)  # fmt: skip
def test_the_other_verbs_refuse_damage_too(whole, cli, verb, name):
    folder, _ = whole
    path = folder / name
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    try:
        assert name.split("/")[-1] in cli(verb, folder, expect=5)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "adapter_config.json", "special_tokens_map.json", "added_tokens.json",
             "model.safetensors.index.json", "modeling_mine.py", "chat_template.jinja"],
)  # fmt: skip
def test_a_file_dropped_beside_the_language_model_is_refused(whole, name):
    folder, _ = whole
    (folder / "llm" / name).write_text("{}")
    try:
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            SASRecLLM.from_pretrained(folder)
    finally:
        (folder / "llm" / name).unlink()


# ------------------------------------------------------- what somebody writes whose manifests fit

SHAPES = [
    "[]",
    "{}",
    "3",
    "null",
    '"x"',
    "[[]]",
    '{"rows": 3}',
    '{"config": 1, "requires": {}}',
    "{",
    "",
]
READ = [
    "results.json",
    "run.json",
    "data/dataset.json",
    "llm/config.json",
    "llm/tokenizer.json",
    "llm/tokenizer_config.json",
    "llm/generation_config.json",
    "stages/1-encoder/parts/encoder/part.json",
    "stages/4-soft/parts/adapter/part.json",
    "stages/4-soft/parts/mapper/part.json",
    "stages/5-fusion/parts/fusion/part.json",
    "config.yaml",
]


def reseal(folder, path):
    """Make all manifests fit again."""
    if (path.parent / MANIFEST).is_file() and path.parent != folder:
        inside = [p for p in files_of(path.parent) if p.name != MANIFEST]
        (path.parent / MANIFEST).write_text(manifest_of(path.parent, inside))
    seal(RunFolder(folder))


@pytest.mark.parametrize("name", READ)
def test_a_file_of_another_shape_is_refused_even_where_all_manifests_fit(whole, name):
    folder, before = whole
    path = folder / name
    was = path.read_bytes()
    texts = list(SHAPES)
    if name.endswith("json"):
        texts += wrong_values(json.loads(was))
    try:
        for text in texts:
            write_text(path, text)
            reseal(folder, path)
            try:
                answers(folder)  # a key that was the default may go
            except (CheckpointError, EnvironmentRefusal):
                pass  # a tokenizer.json may be of a newer library: exit 3 and a pip line
            except Exception as error:
                said = f"{name}: {text[:200]}: {type(error).__name__}: {error}"
                raise AssertionError(said) from error
    finally:
        path.write_bytes(was)
        reseal(folder, path)
    assert answers(folder) == before


def wrong_values(values):
    """The file with each of its keys in turn absent, or of another type."""
    found = []
    for key in values:
        rest = {k: v for k, v in values.items() if k != key}
        found += [rest, rest | {key: ["x"]}]
    return [json.dumps(v) for v in found]


def test_numbers_that_are_not_finite_in_the_results_are_refused(whole):
    folder, _ = whole
    path = folder / "results.json"
    was = path.read_text()
    results = json.loads(was)
    row = results["rows"][results["final"]]
    try:
        for wrong in (None, "1", [], 10**400):
            row["calibration"]["slope"] = wrong
            write_text(path, json.dumps(results))
            seal(RunFolder(folder))
            with pytest.raises(CheckpointError, match="no calibration"):
                SASRecLLM.from_pretrained(folder)
        for wrong in ("NaN", "Infinity", "1e999"):
            row["calibration"]["slope"] = "HERE"
            write_text(path, json.dumps(results).replace('"HERE"', wrong))
            seal(RunFolder(folder))
            with pytest.raises(CheckpointError):
                SASRecLLM.from_pretrained(folder)
    finally:
        write_text(path, was)
        seal(RunFolder(folder))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["llm/model", "stages/4-soft/parts/mapper/weights"])
def test_weights_that_are_not_finite_are_refused_though_all_manifests_fit(whole, where, wrong):
    from safetensors.torch import load_file, save_file

    folder, _ = whole
    path = folder / f"{where}.safetensors"
    was = path.read_bytes()
    tensors = load_file(path)
    next(t for t in tensors.values() if t.is_floating_point() and t.dim() > 1)[-1, -1] = wrong
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        reseal(folder, Path(path))
        with pytest.raises(CheckpointError, match="not finite"):
            SASRecLLM.from_pretrained(folder)
        if where == "llm/model" and wrong != wrong:  # what a server does when it loads the run anew
            with pytest.raises(CheckpointError, match="not finite"):
                load_run(folder, 1)
    finally:
        path.write_bytes(was)
        reseal(folder, path)


def test_no_answer_holds_a_score_that_is_not_finite(whole):
    class Broken:
        name = "broken"

        def score(self, histories, candidates):
            return np.where(candidates == 1, np.nan, 1.0) * np.ones(candidates.shape)

    folder, _ = whole
    system = SASRecLLM.from_pretrained(folder)
    broken = SASRecLLM(system.parts, Broken())
    for ask in (
        lambda: broken.recommend(["m0003"], k=100, retrieve=200),
        lambda: broken.score_items([system.catalog.item_id(1)], ["m0003"]),
        lambda: broken.explain(system.catalog.item_id(1), ["m0003"]),
        lambda: broken.audience(system.catalog.item_id(1)),
    ):
        with pytest.raises(CheckpointError, match="not finite"):
            ask()
