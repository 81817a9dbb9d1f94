"""How long a row will be, before anything is run."""

from __future__ import annotations

import torch

from masc.backends.torch.channels.arrivals import arriving
from masc.backends.torch.engine.lengths import check_end, check_sizes, limit_of
from masc.backends.torch.engine.refusals import empty_prompt
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model.prompts import answer_ids, check_size, prompt_of, value
from masc.backends.torch.model.segments import Segment, start_of


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
