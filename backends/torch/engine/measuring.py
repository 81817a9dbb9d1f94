"""How long a row will be, before anything is run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from masc.backends.torch.channels.arrivals import arriving
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.lengths import check_end, check_sizes, limit_of
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.refusals import empty_prompt
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model.prompts import answer_ids, check_size, placeholders, prompt_ids, prompt_of, value
from masc.backends.torch.model.segments import Segment, start_of
from masc.compiler.ir.plan import Plan


def by_length(plan: Plan, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
    """Places in `rows`, those of long rows first: by the characters that all agents read of them, which nobody has to
    tokenise. indices: the rows' numbers in the whole data, for errors."""
    names = [name for agent in plan.agents for name in placeholders(agent) if name in plan.inputs]
    lengths = [sum(len(value(row, name, i)) for name in names) for row, i in zip(rows, indices, strict=True)]
    return sorted(range(len(rows)), key=lambda at: -lengths[at])


def batches(modules: Modules, rows: Sequence[Row], indices: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers (out of `indices`) in batches of rows of about equal length, longest first: what does not fit in
    memory shows at once. Length is that of all agents' prompts together."""
    agents, inputs = modules.plan.agents, modules.plan.inputs
    lengths = {
        i: sum(len(prompt_ids(modules.base(agent.name), agent, rows[i], i, inputs)) for agent in agents)
        for i in indices
    }
    ordered = sorted(indices, key=lambda i: (-lengths[i], i))
    found = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    if len(found) > 1 and len(found[-1]) == 1 and size > 1:  # a probe swaps within a batch: nobody stands alone
        last = [*found.pop(-2), *found.pop()]
        found += [last] if size == 2 else [last[:-2], last[-2:]]
    return found


def measure(walk: Walk) -> None:
    """Go over the plan of a walk of one row with segments that hold no keys and values, for their lengths alone. What
    agents will say to each other is not known yet, and counts as nothing. E0606 where there is no room, E0619 for an
    empty prompt."""
    most, indices = walk.here.max_length, walk.indices
    for turn in walk.plan.turns:
        name, agent = turn.activation, turn.agent
        base, row, index = walk.base(agent), walk.rows[0], indices[0]
        contents = arriving(walk, turn).contents
        check_sizes(base, agent, contents, indices, most)
        prompt = len(prompt_of(base, walk.plan.agent(agent), contents[0]).ids)
        if not prompt and not any(arrival.holds for arrival in turn.arrives):  # what will be read may fill it
            raise empty_prompt(agent, index)
        steps, label = 0 if turn.think is None else turn.think.steps, 0
        walk.texts[name] = [""]
        if walk.columns is not None and turn.answer is not None and turn.said in walk.columns:
            text = value(row, walk.columns[turn.said], index)
            check_size(base, [text], limit_of(base, most), f"row {index + 1}")
            label = len(answer_ids(base, text)) - (not turn.read_to_end)
            walk.texts[name] = [text]
        real = torch.ones(1, prompt + steps + label, dtype=torch.bool, device="cpu")
        walk.segments[name] = Segment((), real, start_of(turn.at, walk.segments, real), prompt, steps)
        check_end(base, agent, walk.segments[name].end("all"), indices, most)
