"""The API keeps to its own OpenAPI document, whatever is sent: schemathesis, all checks, all phases, on
both databases.

SASRECLLM_FUZZ sets the number of cases for each operation (docs/reliability.md: 1000).
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = os.environ.get("SASRECLLM_FUZZ", "10")


@pytest.mark.timeout(1200)
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="no schemathesis here")
def test_every_operation_keeps_to_the_document(launch, store_url, tmp_path):
    server = launch(store=store_url)
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"]
    command += ["--max-examples", CASES, "--checks", "all", "--seed", "1", "--no-color"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("fuzz_hooks.py"))},
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "12 selected / 12 total" in done.stdout
    assert "Traceback" not in server.stop()
