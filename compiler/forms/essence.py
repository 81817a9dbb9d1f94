"""What of a plan decides what trained weights mean, as a text and as a hash."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import Plan, Sampling, TrainSettings, Turn

_LATER = ("    sparsity ", "    gate_rate ", "    objective ")


def essence(plan: Plan, decoding: bool = False) -> str:
    """The text of all that decides what trained weights mean: everything but the `train` settings, what inputs are
    called in the data and how answers are decoded. decoding: with that, too: then it is all that decides what is said.

    `reaches` is left out as well: it follows from the rest, and from how many layers the model has, which is not known
    before the model is fetched. So are `keeps` and `gradient`, which follow from the turns, and where a model is
    computed and in which dtype. Of a local model only
    the folder's name counts, and of what an adapter begins with the last part of its name, so that a project can be
    moved; that the model is still the same one is what the artifact's content hash is for.
    """

    return without_later(print_plan(bare(plan, decoding)))


def without_later(text: str) -> str:
    """A printed plan without the train entries that came later, which no weights depend on: what is known by the text
    of a plan from before is known by that of the same plan now."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_LATER))


def bare(plan: Plan, decoding: bool = False) -> Plan:
    """The plan without what its essence leaves out."""
    models = tuple(replace(m, target=_last(m.target), loading=m.loading.of_weights) for m in plan.models)
    turns = (_bare(turn, decoding) for turn in plan.turns)
    losses = tuple(replace(loss, reaches=()) for loss in plan.losses)
    agents = tuple(replace(agent, lora=_named(agent.lora)) for agent in plan.agents)
    return replace(
        plan, models=models, agents=agents, turns=tuple(turns), losses=losses, train=TrainSettings(), columns=()
    )


def _last(target: str) -> str:
    """Of a folder only its own name."""
    return target.rpartition("/")[2] if target[:1] == "/" else target


def _named(lora: Lora | None) -> Lora | None:
    """An adapter that begins with a trained one: of that only the last part of its name counts, for whether a path is a
    folder's or an id on the hub shows only while the folder is there."""
    return lora if lora is None or lora.start is None else replace(lora, start=lora.start.rpartition("/")[2])


def _bare(turn: Turn, decoding: bool) -> Turn:
    answer = turn.answer
    if answer is not None and not decoding:
        answer = replace(answer, sampling=Sampling())
    return replace(turn, answer=answer, keeps=(), gradient=True)


def fingerprint(plan: Plan, decoding: bool = False) -> str:
    """sha256 of the essence, in hexadecimal."""
    return hashlib.sha256(essence(plan, decoding).encode()).hexdigest()
