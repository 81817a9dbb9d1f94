"""One pass over a plan's operations for one batch of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from masc.backends.torch import adapters
from masc.backends.torch.base import Base, pad
from masc.backends.torch.prompts import Row, answer_ids, prompt_ids, value
from masc.backends.torch.rollout import Activated, Block, Decoded, Thinking, activate, decode
from masc.backends.torch.segments import Opening, Past, Segment, look, start_of
from masc.compiler.plan import Answer, Prefill, Think, agent_of
from masc.dsl.diagnostics import fail

if TYPE_CHECKING:
    from masc.backends.torch.program import Program


class Walk:
    """One pass over the plan's operations for one batch of rows."""

    def __init__(
        self,
        program: Program,
        rows: Sequence[Row],
        opening: Opening | None,
        recompute: bool,
        columns: Mapping[str, str] | None,
        indices: Sequence[int] | None = None,
    ) -> None:
        """columns: output -> data column (teacher forcing), or None to decode."""
        self.program, self.rows, self.opening, self.recompute = program, rows, opening, recompute
        self.columns = columns
        self.indices = list(range(len(rows))) if indices is None else list(indices)
        self.segments: dict[str, Segment] = {}
        self.activated: dict[str, Activated] = {}
        self.pasts: dict[str, Past | None] = {}
        self.labels: dict[str, Block] = {}
        self.positions = 0

    def steps(self) -> Iterator[tuple[str, Answer]]:
        """Run the plan; stop at each answer, when its activation's segment is there up to the answer (with labels:
        past it)."""
        plan = self.program.plan
        thinks = {op.activation: op for op in plan.operations if isinstance(op, Think)}
        answers = {op.activation: op for op in plan.operations if isinstance(op, Answer)}
        for operation in plan.operations:
            if isinstance(operation, Prefill):
                name = operation.activation
                self._activate(operation, thinks.get(name), answers.get(name))
            elif isinstance(operation, Answer):
                yield operation.activation, operation

    def measure(self) -> None:
        """Walk over the plan with segments that hold no keys and values, for their lengths alone."""
        plan = self.program.plan
        thinks = {op.activation: op.steps for op in plan.operations if isinstance(op, Think)}
        answers = {op.activation: op for op in plan.operations if isinstance(op, Answer)}
        for prefill in (op for op in plan.operations if isinstance(op, Prefill)):
            name, agent = prefill.activation, agent_of(prefill.activation)
            base, row = self.program.base(agent), self.rows[0]
            prompt = len(prompt_ids(base, plan.agent(agent), row, self.indices[0]))
            steps, label = thinks.get(name, 0), 0
            if self.columns is not None and name in answers:
                text = value(row, self.columns[answers[name].output], self.indices[0])
                label = len(answer_ids(base, text)) - (name not in self.program.seen)
            real = torch.ones(1, prompt + steps + label, dtype=torch.bool)
            start = start_of(prefill.at, self.segments, real)
            self.segments[name] = Segment((), real, start, prompt, steps)
            self._check_end(base, agent, self.segments[name].end("all"))

    def _activate(self, prefill: Prefill, think: Think | None, answer: Answer | None) -> None:
        name, agent = prefill.activation, agent_of(prefill.activation)
        spec, base = self.program.plan.agent(agent), self.program.base(agent)
        prompts = [prompt_ids(base, spec, row, i) for row, i in zip(self.rows, self.indices, strict=True)]
        pad_id = base.tokenizer.pad_token_id or 0
        prompt = Block(*pad(prompts, pad_id, base.device))
        label: Block | None = None
        if answer is not None and self.columns is not None:
            texts = [value(row, self.columns[answer.output], i) for row, i in zip(self.rows, self.indices, strict=True)]
            full = Block(*pad([answer_ids(base, text) for text in texts], pad_id, base.device))
            self.labels[answer.output] = full
            # The end of the turn is read only where somebody sees this segment.
            width = full.ids.shape[1] - (name not in self.program.seen)
            label = Block(full.ids[:, :width], full.real[:, :width])
        thinking = None if think is None else self._thinking(base, agent, think)
        start = start_of(prefill.at, self.segments, prompt.ids)
        past = look(prefill.sees, self.segments, self.opening, base.layers, base.rotate)
        end = start + prompt.real.sum(1) + (0 if think is None else think.steps)
        self._check_end(base, agent, end if label is None else end + label.real.sum(1))
        adapter = agent if spec.lora is not None else None
        done = activate(base, adapter, prompt, start, past, thinking, label, self.recompute)
        self.segments[name], self.activated[name], self.pasts[name] = done.segment, done, past
        self.positions += int(done.segment.real.sum())

    def _thinking(self, base: Base, agent: str, think: Think) -> Thinking:
        matrix: Tensor | None = None
        if think.align == "ridge":
            matrix = base.ridge
        elif think.align == "linear":
            matrix = self.program.links[agent]
        return Thinking(think.steps, base.tau, matrix)

    def _check_end(self, base: Base, agent: str, end: Tensor) -> None:
        """Nothing is cut off silently: past the model's last position is an error (E0606). end: long [B]."""
        limits = [n for n in (base.max_positions, self.program.max_length) if n]
        worst = int(end.argmax())
        if limits and int(end[worst]) > min(limits):
            raise fail(
                "E0606",
                f"row {self.indices[worst] + 1} needs {int(end[worst])} positions by the end of agent `{agent}`; "
                f"there are {min(limits)}",
                hint="shorten the input, or raise `max_length` if it is the lower limit",
            )

    def decode(self, activation: str, answer: Answer) -> Iterator[list[Decoded]]:
        """Decode one output; yields the state after each token."""
        program, agent = self.program, agent_of(activation)
        base, spec = program.base(agent), program.plan.agent(agent)
        activated = self.activated[activation]
        seeds = [adapters.derive(answer.sampling.seed, answer.output, i) for i in self.indices]
        room = base.max_positions or 1 << 30
        limits = [max(1, room - int(end)) for end in activated.segment.end("all")]
        adapter = agent if spec.lora is not None else None
        read_end = activation in program.seen
        past = self.pasts[activation]
        for state, segment in decode(base, adapter, activated, past, answer.sampling, seeds, limits, read_end):
            for sample in state if answer.sampling.stop else []:
                text = base.text(sample.ids)
                sample.done = sample.done or any(stop in text for stop in answer.sampling.stop)
            self.segments[activation] = segment
            for sample, limit, i in zip(state, limits, self.indices, strict=True):
                if sample.done and not sample.ended and len(sample.ids) == limit < answer.sampling.max_tokens:
                    raise fail(
                        "E0606",
                        f"the answer to row {i + 1} runs past the model's {base.max_positions} positions",
                        hint="shorten the input, or pass on less with `carry = own` or `carry = latents`",
                    )
            yield state
