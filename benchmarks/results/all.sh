#!/bin/sh
# Every table of docs/results.md: two queues, one thread each, so that two cores are busy. What is done is not done again.
#
#   pip install reasoning-gym
#   sh benchmarks/results/all.sh OUT ARC     # ARC: a folder with arc_easy_train.jsonl and arc_easy_test.jsonl
#
# ARC-Easy as in the instruction form of LLM-Adapters (github.com/AGI-Edgerunners/LLM-Adapters), with the columns
# `question` and `answer`; without ARC the science table is left out.
set -eu
out=$1 arc=${2:-}
results=$(dirname "$0")
examples=$results/../../examples
export OMP_NUM_THREADS=1
mkdir -p "$out"
test -f "$out/sums/train.jsonl" || python "$results/arithmetic.py" --out "$out/sums"


table() { # NAME FOLDER FILE options...: a comparison, and its table and plot under a name of their own
    name=$1 folder=$out/$2
    shift 2
    masc compare "$@" -o "$folder"
    cp "$folder/table.md" "$out/$name.md"
    cp "$folder/plot.png" "$out/$name.png"
    cp "$folder/plot.svg" "$out/$name.svg"
}

(
    set -- meeting "$examples/meeting" --limit 100 --samples 3 --sampled 24 --set open=40
    table meeting "$@" --set carry=trace,latents
    table meeting-seeds "$@" --set carry=latents --seeds 0,1 --rows single-tuned,team
    table meeting-latents "$@" --set carry=latents --set latents=2,4,8 --rows single-tuned,team
) &
first=$!
(
    table courier courier "$examples/courier" --samples 4 --sampled 40
    table arithmetic arithmetic "$results/arithmetic.mas" --train "$out/sums/train.jsonl" --test "$out/sums/test.jsonl" \
        --scorer number --limit 150 --samples 3 --sampled 24 --set steps=40
    test -z "$arc" || table science science "$results/science.mas" --train "$arc/arc_easy_train.jsonl" \
        --test "$arc/arc_easy_test.jsonl" --scorer choice --limit 150 --samples 3 --sampled 24 --set steps=40
) &
second=$!
wait $first
wait $second
