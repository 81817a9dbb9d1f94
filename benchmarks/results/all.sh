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

sums() { # options...
    masc compare "$results/arithmetic.mas" --train "$out/sums/train.jsonl" --test "$out/sums/test.jsonl" --scorer number \
        --limit 150 --samples 3 --sampled 24 --set steps=40 "$@"
}
meeting() { # options...
    masc compare "$examples/meeting" --limit 100 --set open=40 "$@"
}

(
    meeting --set carry=trace,latents --samples 3 --sampled 24 -o "$out/meeting"
    meeting --set carry=latents --set latents=0,2,4,8,16 --rows team --samples 0 -o "$out/meeting-latents"
    meeting --set carry=latents --set align=norm,soft --rows team --samples 0 -o "$out/meeting-align"
    test -z "$arc" || masc compare "$results/science.mas" --train "$arc/arc_easy_train.jsonl" \
        --test "$arc/arc_easy_test.jsonl" --scorer choice --limit 150 --samples 3 --sampled 24 --set steps=40 -o "$out/science"
) &
(
    masc compare "$examples/courier" --samples 4 --sampled 40 -o "$out/courier"
    sums -o "$out/arithmetic"
    masc compare "$examples/courier" --seeds 0,1,2 --rows single-tuned,stopped,team --samples 0 -o "$out/courier-seeds"
    meeting --set carry=latents --seeds 0,1,2 --rows single-tuned,team --samples 0 -o "$out/meeting-seeds"
) &
wait
