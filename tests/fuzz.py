"""``make fuzz``: every property again and again with new random seeds, until time is over.

    python tests/fuzz.py --minutes 60             # new seeds; the first finding ends it
    python tests/fuzz.py --seed 123               # one round with that seed, as it was
    python tests/fuzz.py tests/data               # the properties of these files alone

A round prints its seed and tries ten times the examples of ``make test`` (profile "fuzz" in
conftest.py); a round that began in time is finished.
"""

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", default=["tests"])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", default="2")
    asked = parser.parse_args()
    ends, rounds = time.monotonic() + 60 * asked.minutes, 0
    while rounds == 0 or (asked.seed is None and time.monotonic() < ends):
        rounds += 1
        seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
        print(f"round {rounds}: seed {seed}", flush=True)
        code = _round(seed, asked.paths, asked.workers)
        if code:
            again = " ".join(["python", "tests/fuzz.py", "--seed", str(seed), *asked.paths])
            print(f"a finding in round {rounds} (pytest's exit {code}); again:  {again}")
            return 1
    print(f"no finding in {rounds} rounds")
    return 0


def _round(seed, paths, workers):
    command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis and not soak"]
    command += ["-n", workers, "--dist", "loadfile"] if workers != "0" else []
    command += ["--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed)]
    command += ["-o", "verbosity_assertions=2", "--timeout", "7200", *paths]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
