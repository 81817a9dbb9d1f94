"""The entries of a `train` block: how each is read, within which bounds, and what counts where it is left out.

`TrainSettings` (`compiler/ir/plan.py`) holds what was read; a test holds that its fields and defaults are these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from masc.compiler.language.bounds import SEED, Bounds, whole
from masc.compiler.language.declare import Option, table
from masc.compiler.language.objectives import SUPERVISED, objective
from masc.compiler.language.values import numeric, text, word

_PATH = replace(text, takes="a path in quotes")
_ROWS = "a file or folder of rows, relative to the file, or a data set of the Hugging Face hub"
_SHARE = "it is the share of the steps that leads up to `rate`, such as 0.05"

TRAIN: Mapping[str, Option] = table(
    Option(
        "data",
        _PATH,
        "A file or folder of rows, or a data set of the hub",
        means=f"what is trained on: {_ROWS}",
    ),
    Option("eval_data", _PATH, "What is evaluated on, likewise", means="what is evaluated on, named in the same ways"),
    Option("batch", numeric(whole(1, 4096)), "Samples in a forward pass", 8),
    Option(
        "accumulate",
        numeric(whole(1, 4096)),
        "Forward passes in an optimiser step; rows of about equal length are run together",
        1,
    ),
    Option("steps", numeric(whole(1, 10**9)), "Optimiser steps", 200),
    Option("rate", numeric(Bounds(1e-12, 1e3)), "AdamW's peak learning rate", 2e-4),
    Option(
        "warmup",
        numeric(Bounds(0.0, 1.0), _SHARE),
        "Share of the steps in which the rate rises",
        0.05,
        means="share of the steps over which the rate rises to its peak in a line. Then it falls as half a cosine, to "
        "zero after the last step",
    ),
    Option(
        "clip",
        numeric(Bounds(1e-6, 1e9, zero=True)),
        "The largest gradient norm of each agent and edge; 0: no limit",
        1.0,
    ),
    Option("weight_decay", numeric(Bounds(1e-12, 1e3, zero=True)), "AdamW's weight decay", 0.0),
    Option("seed", numeric(SEED), "Of fresh weights, of the order of samples and of dropout", 0),
    Option("save_every", numeric(whole(0, 10**9)), "Steps between checkpoints; 0: only at the end", 50),
    Option("keep", numeric(whole(1, 10**6)), "How many checkpoints are kept", 2),
    Option("eval_every", numeric(whole(0, 10**9)), "Steps between evaluations; 0: only at the end", 0),
    Option(
        "dtype",
        word("float32", "bfloat16"),
        "Of the frozen base",
        means="of the frozen base: `float32`, `bfloat16`",
        unset="the caller's",
    ),
    Option("max_length", numeric(whole(0, 10**9)), "The most positions of a sample; 0: the model's own limit", 0),
    Option(
        "checkpoint",
        word("none", "agent"),
        "What is recomputed to save memory: nothing, or each agent's activations",
        "none",
        means="activations kept: `none` recomputes nothing, `agent` recomputes each agent's",
    ),
    Option(
        "sparsity",
        numeric(Bounds(1e-12, 1e3, zero=True)),
        "How strongly gates (`gate = learned`) are pulled towards closed; 0: not at all",
        0.0,
        means="how strongly the gates of edges (`gate = learned`) are pulled towards closed: the price, in nats of the "
        "loss, of an edge that is open; `0`: they are not",
    ),
    Option(
        "gate_rate",
        numeric(Bounds(1e-12, 1e3)),
        "AdamW's peak learning rate for gates",
        0.2,
        means="AdamW's peak learning rate for gates, which rises and falls as `rate` does",
    ),
    Option(
        "objective",
        objective,
        "What is made better: the likelihood of told answers, or a reward",
        SUPERVISED,
        means="what is made better: `supervised`, the likelihood of the answers that the data tells, or "
        "[`grpo(...)`](#rewards), a reward",
    ),
)
NUMBERS: Mapping[str, Bounds] = {name: entry.reads.bounds for name, entry in TRAIN.items() if entry.reads.bounds}
"""The numbers among them."""
