"""A program that is served: what of a request is which input of its graph."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from masc.backends.torch.data.check import columns_of
from masc.backends.torch.data.conversations import ConversationError, unfolded
from masc.backends.torch.data.values import Row, text_of
from masc.backends.torch.model.base import Base
from masc.backends.torch.program import Program
from masc.compiler.files.conversations import PARTS
from masc.compiler.ir.plan import Answer
from masc.dsl.diagnostics import did_you_mean
from masc.serving.asked import Messages
from masc.serving.errors import wrong
from masc.serving.worker import Worker

_TALK = "messages"


class Served:
    """A program under a name, with the thread that decodes for it."""

    def __init__(self, name: str, program: Program, size: int, most: int) -> None:
        """size, most: as of `Worker`."""
        self.name, self.created = name, int(time.time())
        self.plan = program.plan
        self.output = self.plan.outputs[-1]
        turn = next(turn for turn in self.plan.answering if turn.said == self.output)
        assert turn.answer is not None
        self.answer: Answer = turn.answer
        self.base: Base = program.base(turn.agent)
        self.used = columns_of(self.plan, labels=False)
        self.parts = {name: f"{_TALK}.{part}" for name, part in map(_part, self.plan.columns) if part in PARTS}
        """Inputs that the graph's file calls a part of a conversation, by name."""
        self.worker = Worker(program, size, most)

    def row(self, messages: Messages, inputs: Mapping[str, Any]) -> Row:
        """The row of a request: what `inputs` names, and of the messages the last user message as the input that is
        left, the system message and earlier turns where the graph's file says which inputs these are. RefusalError
        where something is missing, or would be read by nobody."""
        for name, value in inputs.items():
            if name not in self.plan.inputs:
                hint = did_you_mean(name, self.plan.inputs) or f"its inputs are {', '.join(self.plan.inputs) or 'none'}"
                raise wrong(f"inputs.{name}", f"the graph has no input `{name}`: {hint}")
            try:
                text_of(value)
            except ValueError as error:
                raise wrong(f"inputs.{name}", f"the input `{name}` {error}") from None
        left = [name for name in self.used if name not in inputs and name not in self.parts]
        if missing := left[1:] if messages else left:
            told = f"the input `{missing[0]}` is not given"
            if messages:
                names = ", ".join(f"`{name}`" for name in left)
                told = f"the graph needs the inputs {names}: give all but the one that is the last user message"
            raise wrong(f"inputs.{missing[0]}", f"{told} in `inputs`")
        if not messages:
            return dict(inputs)
        if messages[-1].get("role") != "user":
            raise wrong(_TALK, "the last message must be the user's")
        there = {name: self.parts.get(name, name) for name in self.used if name not in inputs}
        if not there:
            hint = "leave that one out of `inputs`, or send no messages (`[]`)" if inputs else "send none (`[]`)"
            raise wrong("inputs" if inputs else _TALK, f"no input is left that the last user message could be: {hint}")
        known = [name for name in self.used if name in inputs]
        try:
            found = unfolded({**inputs, _TALK: messages}, [*known, *there.values()], ())
        except ConversationError as error:
            raise wrong(_TALK, f"the request {error}" + (f": {error.hint}" if error.hint else "")) from None
        row = {**inputs, **{name: found[column] for name, column in there.items()}}
        for name, value in row.items():
            try:
                text_of(value)
            except ValueError as error:
                raise wrong(_TALK, f"the input `{name}` {error}") from None
        return row


def _part(column: tuple[str, str]) -> tuple[str, str]:
    """Name of an input, and the part of a conversation that its column may be."""
    name, there = column
    return name, there.rpartition(".")[2] if "." in there else ""
