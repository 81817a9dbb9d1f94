"""The identities: what masc's engine computes against what transformers computes alone (docs/semantics.md, section 14).

Each function gives how far the two sides are apart: the largest difference of logits, relative to the largest logit
where that is above 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from masc.backends.torch.program import Program
from masc.backends.torch.proving.plain import expert_by_expert, logits_of
from masc.backends.torch.proving.wide import widened
from masc.compiler.analysis.decoding import Engine
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.source import Source

Row = Mapping[str, str]
ROWS: tuple[Row, ...] = (
    {"q": "Two and two?", "answer": "four"},
    {"q": "Name the colours of a rainbow, in order, and say which of them you like best.", "answer": "red"},
    {"q": "A box holds 12 eggs. Tom buys 3 boxes. How many eggs are that?", "answer": "it is 36 eggs"},
)
"""Rows whose prompts and answers all differ in length."""
_CHAIN = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" adapt none }
agent second on m { user "{q} Check it." adapt none }
agent last on m { user "{q}" adapt none answer (max_tokens = 5) }
graph proof(q) -> answer { first -> second -> last : kv }
"""
_ALONE = """\
mas 1
model m = "a/model"
agent last on m { user "{q}" THINK adapt none answer (max_tokens = 5) }
graph proof(q) -> answer { last }
"""
_ADAPTED = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" think 2 adapt lora(rank = 2, alpha = 4) }
agent second on m { user "{q} Check it.BROUGHT_first" think 1 adapt lora(rank = 2, alpha = 4) }
agent last on m { user "{q}BROUGHT_second" adapt lora(rank = 2, alpha = 4) answer (max_tokens = 3) }
graph proof(q) -> answer { first -> second : FIRST  second -> last : LAST }
"""

_FUSED = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" think 1 adapt none }
agent second on m { user "{q} Check it." adapt none }
agent third on m { user "{q}" adapt none answer (max_tokens = 3) }
graph proof(q) -> answer {
  [first, second] -> third : kv(carry = own, merge = stack)
  second -> third : fuse(width = 8)
}
"""


def program_of(base: Base, text: str) -> Program:
    """A program over a model that is there already, whatever masc knows of its type."""
    compilation = compile_source(Source("proof.mas", text))
    if compilation.plan is None:
        raise MascError(errors(compilation.diagnostics))
    return Program(compilation.plan, {"m": base})


def adapted(base: Base, first: str = "kv", last: str = "kv") -> Program:
    """Three agents that think, with adapters that do something, and channels between them."""
    text = _ADAPTED.replace("FIRST", first).replace("LAST", last)
    for name, channel in (("first", first), ("second", last)):
        text = text.replace(f"BROUGHT_{name}", "" if channel == "kv" else f" {{{name}}}")
    return awake(program_of(base, text))


def fused(base: Base) -> float:
    """Two siblings, stacked, the second one fused as well: a batch against its rows one by one."""
    return batch(awake(program_of(base, _FUSED)), ROWS[:2])


def awake(program: Program) -> Program:
    """With adapters and gates that do something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in program.trainable().items():
        if ".lora_B." in name or name.endswith(".gate"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return program


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number of `other` where that is above 1."""
    if not bool(one.isfinite().all() and other.isfinite().all()):
        return float("inf")
    return float((one.double() - other.double()).abs().max() / other.double().abs().max().clamp_min(1.0))


def chain(base: Base) -> float:
    """Without adapters and latents, a chain with `carry = trace` against one pass over the concatenated prompts."""
    program = program_of(base, _CHAIN)
    with torch.no_grad():
        found = program(ROWS).logits
    return max(_against_plain(program, row, found[i]) for i, row in enumerate(ROWS))


def _against_plain(program: Program, row: Row, found: Tensor) -> float:
    base = program.base("last")
    ids = [token for agent in program.plan.agents for token in prompt_ids(base, agent, row, 0)]
    answer = answer_ids(base, row["answer"])
    return apart(found[: len(answer)], logits_of(base, ids + answer)[len(ids) - 1 : -1])


def batch(program: Program, rows: Sequence[Row] = ROWS) -> float:
    """Logits of a batch against those of its rows one by one; what is decoded must be the same."""
    with torch.no_grad():
        whole = program(rows).logits
        singles = [program([row]).logits[0] for row in rows]
    figure = max(apart(whole[i, : len(one)], one) for i, one in enumerate(singles))
    said = [text for row in rows for text in program.generate([row])]
    return figure if program.generate(rows) == said else float("inf")


def latents(base: Base) -> float:
    """Latent steps with the cache against one pass, without a cache, over the embeddings that they made."""
    program = program_of(base, _ALONE.replace("THINK", "think 3"))
    figures = []
    for i, row in enumerate(ROWS):
        with torch.no_grad():
            walk = Walk(program, [row], None, False, {"answer": "answer"}, [i])
            (turn,) = walk.steps()
            done = walk.activated[turn.activation]
            found = base.logits(torch.cat([done.last, done.label], 1))[0]
            ids, answer = prompt_ids(base, program.plan.agents[0], row, i), answer_ids(base, row["answer"])
            embed = partial(torch.tensor, device=base.device)
            whole = torch.cat([base.embed(embed([ids])), done.fed, base.embed(embed([answer]))], 1)
            nothing = [base.config.pad_token_id or 0] * done.fed.shape[1]
        plain = logits_of(base, [*ids, *nothing, *answer], whole)
        figures.append(apart(found[: len(answer)], plain[-len(answer) - 1 : -1]))
    return max(figures)


def moved(base: Base) -> float:
    """Keys, moved, against those of a run at the new place, relative to their norm; the worst layer."""
    return max(error for _, error in base.rotations)


def gradients(program: Program) -> dict[str, Tensor]:
    """The gradient of the loss over the rows, by parameter; those that have none are left out."""
    program.zero_grad()
    with torch.enable_grad():
        program(ROWS).loss.backward()
    return {n: p.grad.detach().clone() for n, p in program.trainable().items() if p.grad is not None}


def without(program: Program) -> list[str]:
    """The trained tensors that get no gradient; of experts that are modules of their own, which no token need come to,
    one is enough."""
    found = gradients(program)
    return [n for n in program.trainable() if ".experts." not in n and not (n in found and bool(found[n].any()))]


def differences(program: Program, wide: bool) -> float:
    """The slope of the loss along a direction, half random and half the gradient's own, against central differences,
    relative to it. wide: in float64."""
    if not wide:
        return _slopes(program, step=0.02)
    with widened(program), expert_by_expert(program.base("last")):
        off = _slopes(program, step=1e-5)
        # Between the two sides of a step a token may have changed its expert; within a smaller one it has not.
        return off if off < 1e-6 else min(off, _slopes(program, step=1e-6))


def _slopes(program: Program, step: float) -> float:
    own, found = program.trainable(), gradients(program)
    generator = torch.Generator().manual_seed(2)
    random = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for n, p in own.items()}
    noise, slope = _norm(random.values()), _norm(found.values())
    way = {n: random[n] / noise + (found[n] / slope if n in found else 0) for n in own}
    known = sum(float((found[n].double() * way[n].double()).sum()) for n in found)
    losses = []
    with torch.no_grad():
        for side in (step / slope, -2 * step / slope):
            for name, parameter in own.items():
                parameter.add_(way[name], alpha=side)
            losses.append(float(program(ROWS).loss.double()))
        for name, parameter in own.items():
            parameter.add_(way[name], alpha=step / slope)
    return abs((losses[0] - losses[1]) / (2 * step / slope) - known) / abs(known)


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def decoding(base: Base) -> float:
    """What either engine decodes, in a batch and with masc's cache, against plain passes without one: by how much the
    logit of each token is short of the largest, and how far its log-probability is off."""
    program = program_of(base, _CHAIN)
    figures = []
    said = [row["answer"] for engine in get_args(Engine) for row in program.say(ROWS, engine=engine)]
    for row, one in zip(itertools.cycle(ROWS), said, strict=False):
        ids = [token for agent in program.plan.agents for token in prompt_ids(base, agent, row, 0)]
        plain = logits_of(base, [*ids, *one.ids])[len(ids) - 1 :][: len(one.ids)]
        if not len(plain):
            continue
        chosen = torch.tensor(one.ids, device=plain.device)[:, None]
        short = plain.amax(-1, keepdim=True) - plain.gather(1, chosen)
        figures.append(float(short.max() / plain.abs().max().clamp_min(1.0)))
        if one.scored == len(one.ids):
            scores = torch.log_softmax(plain, -1).gather(1, chosen).sum()
            figures.append(abs(float(scores) - one.logprob) / one.scored)
    return max(figures, default=0.0)
