"""The API keeps to its own OpenAPI document, whatever is sent: schemathesis, all checks, all phases, on
both databases.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.hypothesis  # make fuzz runs it too
@pytest.mark.timeout(6000)
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="no schemathesis here")
def test_every_operation_keeps_to_the_document(launch, store_url, tmp_path, times, fuzzed):
    server = launch(store=store_url)
    cases, seed = fuzzed(times(10, 1000))  # for each operation
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"]
    command += ["--max-examples", str(cases), "--seed", str(seed), "--checks", "all", "--no-color"]
    # A busy machine is no finding.
    command += ["--suppress-health-check", "too_slow", "--request-timeout", "300"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("fuzz_hooks.py"))},
        capture_output=True,
        text=True,
        timeout=5900,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "14 selected / 14 total" in done.stdout
    assert "Traceback" not in server.end()
