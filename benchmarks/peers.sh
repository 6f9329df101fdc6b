#!/usr/bin/env bash
# Environments of the peers that `sasrecllm bench --peers DIR` compares with; each pins what the others cannot bear.
#   benchmarks/peers.sh [DIR]        (default: peers)
set -euo pipefail
dir="${1:-peers}"
mkdir -p "$dir"
python3.11 -m venv "$dir/rectools"
PIP_CONSTRAINT= "$dir/rectools/bin/python" -m pip install -q 'torch==2.13.0' 'rectools[torch]==0.19.0' 'numpy<2' 'pyarrow<18'
"$dir/rectools/bin/python" -c "import rectools; print('rectools', rectools.__version__)"
