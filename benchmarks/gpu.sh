#!/usr/bin/env bash
# What one GPU does, in about four minutes: both stages of two language models in bf16, NF4, reranking,
# torchrun, and the paper's recipe for 200 steps.  OUT gets gpu.json, gpu.md and gpu.log.
#   benchmarks/gpu.sh OUT [--model FOLDER] [--only STEPS] [--tiny]
# FOLDER: SmolLM2-135M as an ordinary folder; without it random weights of its shape.  --tiny: a trial on any machine.
# Beside torch (CUDA) and transformers it needs: accelerate, bitsandbytes, jinja2, matplotlib, numpy, peft, polars,
# pydantic, pyyaml, rich, safetensors, tokenizers, typer.  No network, no data set, no installation of the package.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$root/src:$root" HF_HUB_OFFLINE=1
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
