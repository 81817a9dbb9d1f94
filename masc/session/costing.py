"""What a file's team costs: the models' sizes, the lengths of its texts, and `compiler/cost` on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from masc.compiler.channels import CHANNELS
from masc.compiler.cost.anatomy import Anatomy, anatomy
from masc.compiler.cost.cards import CARDS, Card
from masc.compiler.cost.cost import Cost, Links, Measured, Side, Team, fit, side
from masc.compiler.cost.lengths import Lengths
from masc.compiler.files.sources import row_source
from masc.compiler.ir.plan import Plan, agent_of
from masc.compiler.language.objectives import Grpo
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.locate import locate_model
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import MascError, fail
from masc.session import columns
from masc.session.lengths import lengths_of, tokenized

PROMPT = 128
"""Tokens of an input, where no data says how many it has."""
RUN_BATCH = 16
"""Rows that `masc run` and `masc eval` decode together."""
MOST_ROWS = 256
"""Rows of data whose lengths are measured."""
MOST_TURNS = 1000
"""Of a plan whose cost is told unasked."""
Row = Mapping[str, Any]


def cost(
    compilation: Compilation,
    text: Compilation | None,
    rows: Sequence[Row] = (),
    source: str | None = None,
    prompt: int = PROMPT,
    batch: int | None = None,
    dtype: str | None = None,
    cards: Sequence[Card] = tuple(CARDS.values()),
) -> Cost:
    """The cost of a compiled file. text: the same with every edge as text (None: it is left out); rows: of data, whose
    name is `source`; prompt: tokens of an input that rows do not hold; batch: None: 16 rows run together, as many are
    trained on as the file says; dtype: None: the file's, else bfloat16; cards: what it is held against.

    Errors: E0558 where a model is not on disk, or of a type that is not counted.
    """
    plan = compilation.require()
    measured = measure(compilation, rows, prompt, dtype)
    team, sizes = measured.team, measured.team.anatomies
    running = side(team, measured.running, "running", batch or RUN_BATCH)
    trained_on = batch or plan.train.batch
    training = side(team, measured.training, "training", trained_on) if measured.training else None
    return Cost(
        name=plan.name,
        dtype=team.dtype,
        models=tuple((model.name, model.target, sizes[model.name].parameters) for model in plan.models),
        trained=team.trained,
        lengths=_told(plan, all(_folders(compilation).values()), rows, source, prompt),
        running=running,
        training=training,
        text=None if text is None or text.plan is None else _words(text, rows, prompt, team.dtype, running.batch),
        fits=tuple(fit(measured, each, running, training) for each in cards),
        notes=tuple(_notes(plan, sizes)),
    )


@dataclass(frozen=True)
class Each:
    """What one row costs. flops: of its products; positions: that models run through."""

    flops: float
    positions: int


def cost_of(plan: Plan, compilation: Compilation, rows: Sequence[Row]) -> Each | None:
    """What it costs to answer a row of the data by a plan that was made of a compilation's graph, answers as long as
    `max_tokens` allows. None where that is not known (E0558)."""
    try:
        team = Team(plan, _sizes(compilation), _links(compilation), plan.train.dtype or "bfloat16")
    except MascError:
        return None
    found = side(team, lengths_of(plan, _folders(compilation), "running", rows[:MOST_ROWS], PROMPT), "running", 1)
    return Each(found.work.total, found.positions)


def brief(compilation: Compilation) -> Cost | None:
    """The cost of a file without data, without the team in words and without devices; None where it cannot be told, or
    only after a while (of more turns than a person writes)."""
    if compilation.plan is None or len(compilation.plan.turns) > MOST_TURNS:
        return None
    try:
        return cost(compilation, None, cards=())
    except MascError:
        return None


def rows_of(compilation: Compilation, data: Path | None, named: Mapping[str, str]) -> tuple[list[Row], str | None]:
    """The rows of a file (None: of the one that the program names, if it is there), as the graph reads them, and what
    they are called. named: what columns are called there. Errors: as of `session.columns`."""
    plan = compilation.require()
    if data is None and plan.train.data is None:
        return [], None
    source = row_source(str(plan.train.data), compilation.base) if data is None else row_source(data)
    if data is None and (source.path is None or not source.path.exists()):
        return [], None
    shown = Path(source.written).name
    return list(columns.read(source, columns.reading(plan, named, labels=False))), shown


def measure(compilation: Compilation, rows: Sequence[Row], prompt: int = PROMPT, dtype: str | None = None) -> Measured:
    """A compiled file's team, with the lengths of its texts; arguments and errors as of `cost`."""
    plan, folders, seen = compilation.require(), _folders(compilation), rows[:MOST_ROWS]
    team = Team(plan, _sizes(compilation), _links(compilation), dtype or plan.train.dtype or "bfloat16")
    trains = any(loss.reaches for loss in plan.losses)
    running = lengths_of(plan, folders, "running", seen, prompt)
    training = lengths_of(plan, folders, "training", seen, prompt) if trains else ()
    return Measured(team, running, [_in_groups(plan, row) for row in training])


def _in_groups(plan: Plan, row: Lengths) -> Lengths:
    """Where a reward trains, a row's answers stand behind one run of all that comes before them."""
    if not isinstance(aim := plan.train.objective, Grpo):
        return row
    outputs = {turn.activation for turn in plan.answering if turn.answer is not None and turn.answer.output}
    return {name: replace(one, answer=one.answer * aim.group) if name in outputs else one for name, one in row.items()}


def _words(text: Compilation, rows: Sequence[Row], prompt: int, dtype: str, batch: int) -> Side:
    """The same team in words, running."""
    found = measure(text, rows, prompt, dtype)
    return side(found.team, found.running, "running", batch)


def _sizes(compilation: Compilation) -> dict[str, Anatomy]:
    """Of the plan's models, by name."""
    found: dict[str, Anatomy] = {}
    for model in compilation.require().models:
        location = locate_model(model.target, compilation.base, model.loading.revision)
        folder = None if location is None else location.folder
        facts = compilation.facts.get(model.name)
        if folder is None or facts is None:
            raise _absent(model.target, location is not None and location.kind == "hub")
        sizes = anatomy(folder, facts)
        if sizes is None:
            raise _uncounted(model.target, facts.model_type)
        found[model.name] = sizes
    return found


def _folders(compilation: Compilation) -> dict[str, Path | None]:
    """Where the models' tokenizers are, by name; None: there is none that can be read."""
    found: dict[str, Path | None] = {}
    for model in compilation.require().models:
        location = locate_model(model.target, compilation.base, model.loading.revision)
        folder = None if location is None else location.folder
        found[model.name] = folder if tokenized(folder) else None
    return found


def _uncounted(target: str, kind: str) -> MascError:
    family = FAMILIES.get(kind)
    if family is not None and family.parts:
        return fail("E0558", f"nothing is known of the sizes of `{target}`: its config.json does not tell them")
    special = "" if family is None or not family.special else f" ({family.special})"
    message = f"what `{target}` costs is not counted: it is of the type `{kind}`{special}"
    counted = ", ".join(sorted(name for name, one in FAMILIES.items() if one.parts))
    hint = f"counted are {counted}; `masc train --profile` measures a step"
    return fail("E0558", message, hint=hint)


def _absent(target: str, hub: bool) -> MascError:
    message = f"nothing is known of the sizes of `{target}`: it is not on disk"
    hint = f"`masc models fetch {target}` fetches it"
    if hub:
        hint = f'`hf download {target} --include "*.json"` fetches what is needed here, without the weights'
    return fail("E0558", message, hint=hint)


def _links(compilation: Compilation) -> Links:
    """The numbers in trained links: between two agents there is one of a kind."""
    found: dict[tuple[str, str, str], int] = {}
    graph = compilation.graph
    for edge in () if graph is None else graph.edges:
        count = CHANNELS[edge.kind].links
        if graph is not None and count is not None:
            sender, receiver = agent_of(edge.sender), agent_of(edge.receiver)
            left, right = (compilation.facts[graph.agent(name).model] for name in (sender, receiver))
            found[edge.kind, sender, receiver] = count(edge, left, right)
    return found


def _told(plan: Plan, read: bool, rows: Sequence[Row], source: str | None, prompt: int) -> str:
    """Where the lengths come from, in words. read: all models have tokenizers."""
    how = "measured" if read else "estimated at 4 characters a token (no tokenizer)"
    if rows:
        first = f"the first {MOST_ROWS:,} of " if len(rows) > MOST_ROWS else ""
        told = f"{how} on {first}{len(rows):,} row{'s' * (len(rows) != 1)} of {source}"
        lacking = [f"`{loss.column}`" for loss in plan.losses if loss.column not in rows[0]]
        return f"{told}; it has no {' and no '.join(lacking)}: labels as long as `max_tokens`" if lacking else told
    told = f"prompts {how}, {prompt} tokens for each input" if plan.inputs else f"prompts {how}"
    return f"{told}, labels as long as `max_tokens`" if plan.losses else told


def _notes(plan: Plan, sizes: Mapping[str, Anatomy]) -> list[str]:
    found = ["answers are as long as `max_tokens` allows, where a plan runs"]
    if any(each.windowed for each in sizes.values()):
        found.append("layers with a sliding window are counted as if they saw everything")
    if any(entry.until is not None for turn in plan.turns for entry in turn.sees):
        found.append("in training, channels with `open` are counted open, as in the first steps")
    if any(arrival.aligns for turn in plan.turns for arrival in turn.arrives):
        found.append("fusers are counted for the whole prompt, though only shared values are fused")
    if any(agent.lora is not None and agent.lora.dora for agent in plan.agents):
        found.append("adapters with `dora` keep several times as much for the backward pass as is counted")
    if plan.train.accumulate > 1:
        found.append(f"a step is {plan.train.accumulate} batches (`accumulate`); memory is that of one")
    if isinstance(aim := plan.train.objective, Grpo):
        found.append(
            f"a step on a reward decodes {aim.group} answers to each row, which is told of one under running, and "
            f"trains on all, {'once' if aim.updates == 1 else f'{aim.updates} times'}; prompts and latents are run "
            "once for a row's answers, unless a text that is sampled comes before"
        )
    if plan.train.checkpoint == "agent":
        found.append("activations are computed again in the backward pass (`checkpoint agent`)")
    return found
