#!/usr/bin/env bash
# The study of lists from scratch: OUT/lists.md, which stands in docs/results/lists.md.  Given again it goes on.
#   benchmarks/lists.sh [OUT] [PEERS] [KEY=VALUE of the study...]      (default: lists, peers)
# SASRECLLM_DATA names the folder with one two-table folder for each data set of configs/studies/lists.yaml.
# PEERS is what `benchmarks/peers.sh PEERS rectools replay` filled; what is missing there is named in the page.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${SASRECLLM_DATA:?name the folder with the data sets}"
data="$(realpath -m "$SASRECLLM_DATA")"
out="$(realpath -m "${1:-lists}")"
peers="$(realpath -m "${2:-peers}")"
shift $(($# < 2 ? $# : 2))
program="${SASRECLLM:-sasrecllm}"
python="${PYTHON:-python}"
worst=0
settings=()
for folder in "$data"/*/; do
  name="$(basename "$folder")"
  grep -q "^  $name:" configs/studies/lists.yaml && settings+=("datasets.$name.set.data.path=$data/$name")
done
"$program" study configs/studies/lists.yaml --out "$out" "${settings[@]}" "$@" || worst=$?
for run in "$out"/*/the-list-fusion/seed-0; do
  [ -f "$run/run.json" ] || continue
  folder="$(dirname "$(dirname "$run")")"
  "$python" -m benchmarks.lists export "$run" "$folder/rivals" || worst=$?
  for peer in rectools replay; do
    [ -x "$peers/$peer/bin/python" ] || continue
    "$peers/$peer/bin/python" "benchmarks/lists_$peer.py" "$folder/rivals" || worst=$?
  done
  "$python" -m benchmarks.lists judge "$run" "$folder" || worst=$?
done
"$python" -m benchmarks.lists page "$out" || worst=$?
exit "$worst"
