#!/usr/bin/env bash
# The tables of README.md and docs/results/ from scratch, but for smollm2.md, daily.md and vectors of titles, a day on 2 cores; run it again to go on where it stopped.
#   benchmarks/tables.sh [DATA] [OUT] [KEY=VALUE of every study...]        (default: data, tables)
# DATA holds a two-table folder (interactions.parquet, items.parquet) for each data set named below.  Where one is
# missing, MovieLens comes from its official archive, and the study names the sets that it could not read.
set -uo pipefail
data="$(realpath -m "${1:-data}")"
out="${2:-tables}"
shift $(($# < 2 ? $# : 2))
program="${SASRECLLM:-sasrecllm}"
worst=0

# at NAME FOLDER: where a study's data set lies, if it does.
at() { [ -d "$data/$2" ] && echo "datasets.$1.set.data.source=two-table" && echo "datasets.$1.set.data.path=$data/$2"; }

# study PLAN NAME FOLDER NAME FOLDER...
study() {
  local plan="$1" settings=()
  shift
  while [ $# -gt 1 ]; do
    mapfile -t -O "${#settings[@]}" settings < <(at "$1" "$2")
    shift 2
  done
  "$program" study "configs/studies/$plan.yaml" --out "$out/$plan" "${settings[@]}" "${more[@]}" || worst=$?
}

more=("$@")
"$program" run --config configs/demo.yaml --out "$out/demo" || worst=$?
films=()
[ -d "$data/ml-1m-collm" ] && films=(data.source=two-table "data.path=$data/ml-1m-collm")
"$program" run --config configs/ml-1m.yaml --out "$out/ml-1m-run" "${films[@]}" || worst=$?
study known-world
study cold-start ml-1m ml-1m-collm
study ml-1m ml-1m ml-1m-collm
study full-ranking ml-100k ml-100k ml-latest-small ml-latest-small lastfm lastfm-llara
SASRECLLM_DATA="$data" benchmarks/lists.sh "$out/lists" peers "${more[@]}" || worst=$?
study data-sets ml-100k ml-100k "ml-100k, TALLRec's rows" ml-100k ml-latest-small ml-latest-small \
  lastfm lastfm-llara amazon-industrial amazon-industrial-minionerec amazon-office amazon-office-minionerec \
  goodreads goodreads-sprec
exit "$worst"
