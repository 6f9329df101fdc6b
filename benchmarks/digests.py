"""Digests of tiny runs of every strategy: proof, to the bit, that a refactoring changed nothing.

    python benchmarks/digests.py before.json               # on the commit before
    python benchmarks/digests.py after.json                # on the commit after
    python benchmarks/digests.py --compare before.json after.json

Each run of ``RUNS`` is trained from ``tests/tiny.yaml`` in a process of its own.  Its digests (SHA-256)
are those of all files of weights and scores (tensors: names, types, shapes and bytes), of what a part
keeps as JSON, of ``results.json``, and of recommendations; what was measured in seconds is left out.
It uses the command line, the files of a run folder and ``SASRecLLM`` alone, so one copy of this file
can judge two commits (``PYTHONPATH=OTHER/src``), on one machine with the same packages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TINY = Path(__file__).resolve().parent.parent / "tests" / "tiny.yaml"
BASE = "hierarchical-freezing"
LOADED = f"{{encoder: {BASE}, adapter: {BASE}/stages/2-text/parts/adapter}}"
SWAPPED = f"{{name: swapped, task: answer, train: [mapper], prompt: soft, load: {LOADED}}}"
RANKED = ("evaluation.ranking.when=always", "evaluation.baselines=[ItemKNN, Markov chain]")

RUNS: dict[str, tuple[str, ...]] = {
    BASE: (f"strategy={BASE}",),  # first: the spelt-out strategy loads its parts
    "dual-stage": ("strategy=dual-stage",),
    "plug-and-play": ("strategy=plug-and-play",),
    "encoder-only": ("strategy=encoder-only",),
    "text-only": ("strategy=text-only",),
    "mapper-only": ("strategy=mapper-only",),
    "joint": ("strategy=joint",),
    "spelt-out": (f"strategy=[{SWAPPED}]", f"llm.backbone={BASE}/llm", "fusion.enabled=false"),
    "title-prior": ("encoder.prior=titles",),
    "fresh-users": ("mapper.llm_holdout_users=0.5",),
    "no-folds": ("encoder.folds=0",),
    "gru4rec": ("encoder.kind=gru4rec", "encoder.likes_only=false"),
    "mf": ("encoder.kind=mf", "mapper.encoder_logit=true"),
    "ncf": ("encoder.kind=ncf", "strategy=joint"),
    "implicit": ("data.feedback=implicit", *RANKED),
}
"""Name of a run -> what it sets beside ``tests/tiny.yaml``; folders are those of other runs."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
FIXED = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"} | dict.fromkeys(ONE_THREAD, "1")


def tensors_digest(path: Path) -> str:
    """Digest of a safetensors file: the length of its header in 8 bytes, the header, the tensors."""
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin]) | {"__metadata__": None}
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + raw[begin:]).hexdigest()


def json_digest(value: Any) -> str:
    """Digest of JSON without what was measured; floats to their last bit, keys in their order."""
    kept = json.loads(json.dumps(value), object_hook=_unmeasured)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _unmeasured(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if "seconds" not in k and "per_second" not in k}


def lists_digests(folder: Path) -> dict[str, str]:
    """Digests of the ten best items of all users, at once and one by one, and of somebody new."""
    import numpy as np

    from sasrecllm import SASRecLLM, Title

    system = SASRecLLM.from_pretrained(folder, device="cpu")
    users, items = system.catalog.user_ids, system.catalog.item_ids
    many = system.recommend_many(system.dataset.latest(np.arange(len(users))), k=10)
    single = [[r.to_dict() for r in system.recommend(user=user, k=10)] for user in users]
    new = [r.to_dict() for r in system.recommend([*items[:2], Title("The Hidden Harbour")], k=10)]
    lists = {"all users": [a.tolist() for a in many], "each user": single, "a new user": new}
    return {f"recommendations: {whose}": json_digest(got) for whose, got in lists.items()}


def run_digests(name: str, runs: Path) -> dict[str, str]:
    """Train a run into the folder of its name in ``runs``; digests of its files and lists."""
    command = [sys.executable, "-m", "sasrecllm", "run", "-q", "-c", str(TINY), "-o", name, *RUNS[name]]
    done = subprocess.run([*command, "device=cpu"], cwd=runs, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    folder = runs / name
    found = {path: tensors_digest(path) for path in sorted(folder.rglob("*.safetensors"))}
    for path in [*sorted(folder.rglob("part.json")), folder / "results.json"]:
        found[path] = json_digest(json.loads(path.read_text(encoding="utf-8")))
    return {p.relative_to(folder).as_posix(): d for p, d in found.items()} | lists_digests(folder)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each run, and each file or list of a run, that is not the same in both."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            found.append(f"{key}: only {'after' if old is None else 'before'}")
        elif isinstance(old, Mapping):
            found += [f"{key}: {line}" for line in differences(old, new)]
        elif old != new:
            found.append(f"{key}: differs")
    return found


def main() -> None:
    """Digest the runs into a file, or compare two files; exit 1 where they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", help="JSON file to write")
    parser.add_argument("--only", action="append", choices=RUNS, help="this run alone; repeatable")
    parser.add_argument("--keep", type=Path, help="new folder for the runs [default: a temporary one]")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    asked = parser.parse_args()
    if asked.compare:
        before, after = (json.loads(p.read_text(encoding="utf-8")) for p in asked.compare)
        lines = differences(before, after)
        print("\n".join(lines) or f"all the same: {sum(map(len, before.values()))} digests")
        sys.exit(bool(lines))
    if asked.out is None or (asked.keep and asked.keep.exists()):
        parser.error("give the file to write, and as --keep a folder that does not exist yet")
    for name in [n for n in os.environ if n.startswith("SASRECLLM_")]:
        del os.environ[name]
    import sasrecllm  # threads are counted when it imports numpy and torch: not yet

    source = str(Path(sasrecllm.__file__).resolve().parent.parent)
    os.environ |= FIXED | {"PYTHONPATH": source}  # all processes run the same source
    print(f"of {source}", flush=True)
    wanted = {*(asked.only or RUNS)} | ({BASE} if "spelt-out" in (asked.only or ()) else set())
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        runs = (asked.keep or Path(temporary, "runs")).resolve()
        runs.mkdir(parents=True)
        for name in [n for n in RUNS if n in wanted]:
            found[name] = run_digests(name, runs)
            print(f"{name}: {len(found[name])} digests, {json_digest(found[name])}", flush=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
