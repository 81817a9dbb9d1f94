"""What the engines of `backends/torch` compute and keep, as numbers: all that the cost of a plan takes for granted
about them stands here. `tests/backends/test_cost.py` holds them against what is measured; `python benchmarks/cost.py`
against whole processes.
"""

from __future__ import annotations

from masc.compiler.cost.anatomy import Anatomy

ATTENTION_BACKWARD = 2.5
"""FLOPs of attention's backward pass against its forward pass: five products, of which one is of the scores computed
again, against two (FlashAttention, arXiv 2205.14135)."""
GATED_BACKWARD = 2.0
"""The same where scores are computed one by one and kept: within a cap, or with half open gates in the mask."""
WIDE = 4
"""Bytes of what is computed in float32 whatever the base model's dtype is: adapters, logits."""
OPTIMISER = 3
"""Numbers beside each trained one: its gradient, and AdamW's two means."""
MLP_KEPT = 3
"""Tensors as wide as the inner layer that a block keeps for the backward pass: what the gate gives, the same activated,
and what `up_proj` gives. What goes into `down_proj` is kept by its adapter."""
GATED_KEPT = 2
"""The same where the whole MLP is one function (`model/gated.py`): what gate and up give, and nothing for adapters."""
ROUTED_KEPT = 1.5
"""Tensors as wide as the hidden states that a block keeps for each expert that reads a position: what it reads, copied,
and of what it gives."""
STEPWISE = {"clamped": 4, "gelu_new": 3, "xielu": 3}
"""By activation that is computed step by step, how many more such tensors it keeps than one that is not."""


def side_by_side(anatomy: Anatomy, ranks: dict[str, int], name: str) -> int:
    """How many adapters stand in one matrix with that of a projection: each output is multiplied with B of all of them,
    all but one of them zeros (`model/lora.py`)."""
    return max([sum(one in ranks for one in group) for group in anatomy.readers if name in group], default=1)


def copies(anatomy: Anatomy, ranks: dict[str, int]) -> int:
    """Bytes of one layer's A's and B's as one matrix each, which an activation makes of adapters that stand side by
    side."""
    found = 0
    for group in anatomy.readers:
        own = [(ranks[name], anatomy.projections[name]) for name in group if name in ranks]
        if len(own) > 1:
            inner, outer = own[0][1][0], sum(shape[1] for _, shape in own)
            found += sum(rank for rank, _ in own) * (inner + outer) * WIDE
    return found


def kept_layer(
    anatomy: Anatomy,
    ranks: dict[str, int],
    q: int,
    k: int,
    width: int,
    masked: bool,
    dropped: bool = False,
    joined: bool = True,
    growing: bool = False,
) -> int:
    """Bytes that one layer keeps for the backward pass of a pass of q positions that attend to k columns, for one
    sample. width: bytes of a number of the base model; masked: a mask is given; dropped: the adapters have dropout;
    joined: plain adapters on plain weights; growing: keys and values are parts of the cache (`model/growing.py`)."""
    # A norm keeps what it reads, and a float32 number for each vector (`model/norms.py`).
    norms = anatomy.norms * q * (anatomy.hidden * width + WIDE)
    heads_normed = anatomy.heads + anatomy.kv_heads
    normed = q * heads_normed * (anatomy.head_dim * width + WIDE) if anatomy.normed else 0
    own = width if q == 1 else max(width, WIDE)  # of several positions it is computed in float32
    again = q * anatomy.queries * width if own > width else 0  # the output as `o_proj` keeps it
    keys = 0 if growing and own == width else 2 * k * anatomy.kv_heads * anatomy.head_dim
    attention = (2 * q * anatomy.queries + keys) * own + q * anatomy.heads * WIDE + again
    if anatomy.scored:
        attention = q * anatomy.queries * width + keys * own + _scored(anatomy, q, k, width)
    mask = q * k * own if masked else 0
    gated = joined and {"gate_proj", "up_proj", "down_proj"} <= ranks.keys()
    mlp = (GATED_KEPT if gated else _mlp_kept(anatomy)) * q * anatomy.inner * width
    if anatomy.experts is not None:
        mlp += int(ROUTED_KEPT * q * anatomy.experts.each * anatomy.hidden * width)
    adapters = _dropped(anatomy, ranks) if dropped else _adapters(anatomy, ranks, width, gated)
    return norms + normed + attention + mask + mlp + q * adapters


def _mlp_kept(anatomy: Anatomy) -> int:
    """Tensors as wide as the inner layer: where there is no gate, what is activated."""
    gated = anatomy.experts is not None or len(anatomy.mlp) > 2 or anatomy.mlp[0] == "gate_up_proj"
    return (MLP_KEPT if gated else 1) + STEPWISE.get(str(anatomy.activation), 0)


def _scored(anatomy: Anatomy, q: int, k: int, width: int) -> int:
    """Bytes of what attention keeps that computes its scores one by one, in float32 (`_weights` of
    `model/attention.py`): the weights, and what is within a cap; queries and keys, repeated for all heads that read
    the same, and values as wide as the model's numbers."""
    scores = q * k * anatomy.heads * (anatomy.scored * WIDE + (width if width < WIDE else 0))
    return scores + q * anatomy.queries * WIDE + k * anatomy.queries * (WIDE + width)


def _adapters(anatomy: Anatomy, ranks: dict[str, int], width: int, gated: bool) -> int:
    """Of each adapter what goes into its first half and, in float32, into its second. Projections that read the same
    share the former, and `o_proj` reads what attention keeps. gated: what goes into `down_proj` is computed again."""
    into = {name: anatomy.projections[name][0] for name in ranks}
    groups = anatomy.readers[:2] if gated else anatomy.readers
    inputs = sum(max((into[name] for name in group if name in into), default=0) for group in groups)
    return inputs * width + sum(ranks.values()) * WIDE


def _dropped(anatomy: Anatomy, ranks: dict[str, int]) -> int:
    """With dropout each keeps what is left of its input, and what was drawn for it, in float32."""
    return (2 * sum(anatomy.projections[name][0] for name in ranks) + sum(ranks.values())) * WIDE


def working_layer(anatomy: Anatomy, ranks: dict[str, int], q: int, k: int, width: int, masked: bool) -> int:
    """Bytes that computing one layer of such a pass needs at a time, for one sample, beside what is kept: those of the
    MLP, or of attention if they are more."""
    mlp = q * anatomy.inner * ((_mlp_kept(anatomy) + 1) * width + (2 * WIDE if ranks else 0))
    keys = 2 * k * anatomy.kv_heads * anatomy.head_dim
    attention = (keys + (q * k if masked else 0) + 4 * q * anatomy.queries) * max(width, WIDE if q > 1 else 0)
    scores = (anatomy.scored + 1) * q * k * anatomy.heads * WIDE if anatomy.scored else 0
    return max(mlp, attention + scores)


LOGITS_RUNNING = 3
"""Tensors of a token's logits that decoding holds at a time, in float32."""
LOGITS_TRAINING = 3
"""In training, in float32: themselves, their log-softmax, and a gradient."""
LOGITS_AT_ONCE = 1 << 25
"""Logits of labels are worked out so many at a time."""


def logits_training(labels: int, vocabulary: int, width: int) -> int:
    """Bytes of the logits of so many labels."""
    together = min(labels, max(1, LOGITS_AT_ONCE // vocabulary)) * vocabulary
    return together * (LOGITS_TRAINING * WIDE + (width if width < WIDE else 0))


SLOT = 64
"""Columns of slots are read in multiples of it, those that hold nothing masked."""


def wide(columns: int) -> int:
    """Columns that a pass over slots is given, where so many hold something."""
    return -(-columns // SLOT) * SLOT


def grown(columns: int) -> int:
    """Columns of a slot that holds so many: it grows by half."""
    return columns + columns // 4
