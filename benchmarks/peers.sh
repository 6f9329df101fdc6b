#!/usr/bin/env bash
# Environments of the peers that `python -m benchmarks.bench sasrec --peers DIR` compares with; each pins what the
# others cannot bear.
#   benchmarks/peers.sh [DIR] [NAME...]        (default: peers, all of them)
# Tried with Python 3.11 and a CPU torch 2.13 (about 1.5 GB each):
#   rectools  installs as published; needs numpy < 2.
#   replay    installs as published.
#   recbole   asks for ray <= 2.6.3, for hyper-parameter search alone. It is installed without its
#             dependencies and they are named here, ray left out: recbole.quick_start then does not
#             import; model, data and trainer, which are used, do.
#   gsasrec   is on no registry: peer_gsasrec.py follows its recipe in plain torch.
set -euo pipefail
dir="${1:-peers}"
shift || true
export PIP_CONSTRAINT=
torch='torch==2.13.0'

build() {
  python3.11 -m venv "$dir/$1"
  "$dir/$1/bin/python" -m pip install -q "$torch" "${@:2}"
}

rectools() { build rectools 'rectools[torch]==0.19.0' 'numpy<2' 'pyarrow<18'; }
replay() { build replay 'replay-rec[torch]==0.22.0'; }
gsasrec() { build gsasrec 'numpy>=2'; }
recbole() {
  build recbole 'numpy<2' 'pandas<3' scipy tqdm 'colorlog==4.7.2' 'colorama==0.4.4' scikit-learn pyyaml \
    tensorboard thop tabulate plotly texttable psutil
  "$dir/recbole/bin/python" -m pip install -q --no-deps recbole==1.2.1
}

mkdir -p "$dir"
for name in "${@:-rectools replay recbole gsasrec}"; do
  for one in $name; do
    "$one"
    echo "$one is in $dir/$one"
  done
done
