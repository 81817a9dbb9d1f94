"""Decoding: a pool of slots that is kept full. Whoever is done leaves, and the last active slot takes the place.

Tokens and their scores stay on the device for a few steps; then the host looks at them, all at once, and works out who
has ended. Between two looks it asks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakMethod

import torch
from torch import Tensor

from masc.backends.torch.engine.choosing import Draws, choose, scores, settings
from masc.backends.torch.engine.fast.adapters import Adapting
from masc.backends.torch.engine.fast.rows import Travelling
from masc.backends.torch.engine.fast.writing import Writer, Writing
from masc.backends.torch.engine.outputs import Said, said_of
from masc.backends.torch.engine.refusals import answer_too_long, no_numbers
from masc.backends.torch.engine.stopping import cut_at_stop
from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.cache import Slots, Steps
from masc.compiler.ir.plan import Answer, Sampling
from masc.dsl.diagnostics import MascError

LOOK = 4
"""Tokens between two looks of the host."""


@dataclass
class Seat:
    """One answer as it grows. limit: tokens that there is room for; scores: the log-probability of each of `ids` and
    of the token that ended it; recorded: tokens that have been chosen, also those behind its end."""

    one: Writing
    answer: Answer
    limit: int
    draws: Draws
    ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    recorded: int = 0
    end: int | None = None
    done: bool = False

    @property
    def sampling(self) -> Sampling:
        return self.answer.sampling

    @property
    def tokens(self) -> int:
        """Tokens that are part of the segment: they are read, if somebody looks at it or starts behind it."""
        return len(self.ids) + (self.end is not None) if self.one.turn.read_to_end else 0

    @property
    def through(self) -> bool:
        """Of the tokens that were chosen, all but the last have been read; or nobody wants them any more."""
        return self.one.row.over or (self.done and self.recorded > self.tokens)

    @property
    def wants(self) -> int:
        """Tokens to go, at most."""
        left = 0 if self.done else min(self.sampling.max_tokens, self.limit) - len(self.ids)
        return left + self.one.turn.read_to_end

    def record(self, base: Base, token: int, score: float, cuts: bool) -> None:
        """One more token, and its log-probability. E0701, E0606."""
        self.recorded += 1
        if self.done:
            return
        index = self.one.row.job.index
        if not math.isfinite(score):
            raise no_numbers(self.one.turn.agent, index)
        self.scores.append(score)
        if token in base.stop_ids:
            self.done, self.end = True, token
            return
        self.ids.append(token)
        full = len(self.ids) >= min(self.sampling.max_tokens, self.limit)
        self.done = full or (bool(self.sampling.stop) and self._stopped(base))
        if self.done and len(self.ids) == self.limit < self.sampling.max_tokens and not cuts:
            raise answer_too_long(index, base.max_positions)

    def _stopped(self, base: Base) -> bool:
        text = base.text(self.ids)
        return any(stop in text for stop in self.sampling.stop)

    def said(self, base: Base) -> Said:
        whole = base.text(self.ids)
        text = cut_at_stop(whole, self.sampling)
        cut = self.end is None and text == whole
        return said_of(text, self.ids, self.scores, cut, self.end)


class Pool:
    """The answers of one stage that are being decoded, in the first slots of a cache of their own.

    decoded: positions that were run; wanted: those of them that an answer holds.
    """

    def __init__(
        self,
        writer: Writer,
        slots: Slots,
        adapting: Adapting,
        cuts: bool,
        fail: WeakMethod[Callable[[Travelling, MascError], None]],
    ) -> None:
        """slots: for the answers of as many rows as there may be at once. cuts: an answer that reaches the model's last
        position ends there (else E0606). fail: told of a row whose answer cannot go on."""
        self.writer, self.slots, self.adapting, self.cuts, self._fail = writer, slots, adapting, cuts, fail
        self.base = writer.base
        self.seats: list[Seat] = []
        self.decoded = self.wanted = 0
        self._pending = torch.zeros(0, 1, dtype=torch.long, device=self.base.device)
        self._steps: Steps | None = None
        self._table: Tensor | None = None

    @property
    def rows(self) -> int:
        return len(self.seats) // len(self.writer.turns)

    def enter(self, rows: Sequence[Travelling]) -> list[Seat]:
        """Write the prompts and latents of new rows, and choose their first tokens. Returns who is through by that."""
        at = len(self.seats)
        written, last = self._written(at, rows)
        new = [self._seat(one, slot) for slot, one in enumerate(written, at)]
        self.seats += new
        table = settings([seat.sampling for seat in new], last)
        choice, values = self._chosen(last, table, self._draws(new, 1), 0)
        self._pending = torch.cat([self._pending, choice[:, None]])
        self._steps = None
        self._record(new, [choice], [values])
        return self.leave()

    def _written(self, at: int, rows: Sequence[Travelling]) -> tuple[list[Writing], Tensor]:
        """As `Writer.write`, once for rows that have come the same way; the others' slots are copies."""
        alike: dict[tuple[int | str, ...], list[Travelling]] = {}
        for row in rows:
            alike.setdefault(row.way, []).append(row)
        written, last = self.writer.write(self.slots, at, [first for first, *_ in alike.values()], self.adapting)
        if len(alike) == len(rows):
            return written, last
        of = list(range(len(written)))
        for slot, one in enumerate(written[:]):
            for row in alike[one.row.way][1:]:
                self.slots.move(at + slot, at + len(written))
                row.prompts.update(one.row.prompts)
                written.append(replace(one, row=row))
                of.append(slot)
        return written, last[torch.tensor(of, device=last.device)]

    def _seat(self, one: Writing, slot: int) -> Seat:
        turn, job = one.turn, one.row.job
        assert turn.answer is not None
        answer = job.decoding.of(turn.answer)
        seed = derive(answer.sampling.seed, turn.said, job.index, *([job.sample] if job.sample else []))
        room = self.base.max_positions or 1 << 30
        return Seat(one, answer, max(1, room - self.slots.position[slot]), Draws(seed))

    def step(self, look: int = LOOK) -> list[Seat]:
        """Decode up to `look` tokens of everybody who is there. Returns who is through by that."""
        adapters = tuple(self.writer.adapter(seat.one.turn) for seat in self.seats)
        if self._steps is None:
            most = max(seat.wants for seat in self.seats)
            self._steps = Steps(self.slots, 0, len(self.seats), most, adapters)
            self._table = settings([seat.sampling for seat in self.seats], self._pending)
        count = 1 if self.writer.continued else max(1, min(look, *(seat.wants for seat in self.seats)))
        draws = self._draws(self.seats, count)
        tokens, values = [], []
        with self.adapting(adapters):
            for number in range(count):
                hidden = self._steps(self._pending)
                choice, value = self._chosen(hidden, self._table, draws, number)
                tokens.append(choice)
                values.append(value)
                self._pending = choice[:, None]
        self.decoded += count * len(self.seats)
        self._record(self.seats, tokens, values)
        return self.leave()

    def _draws(self, seats: Sequence[Seat], count: int) -> Tensor | None:
        """The numbers of the next tokens, [n, count]; None: nothing is sampled."""
        if not any(seat.sampling.temperature for seat in seats):
            return None
        return torch.stack([seat.draws.next(count) for seat in seats]).to(self.base.device)

    def _chosen(self, hidden: Tensor, table: Tensor | None, draws: Tensor | None, number: int) -> tuple[Tensor, Tensor]:
        logits = self.base.logits(hidden[:, 0])
        choice = choose(logits, table, None if draws is None else draws[:, number])
        return choice, scores(logits, choice)

    def _record(self, seats: Sequence[Seat], tokens: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """The look: what was chosen, and how probable it was, comes to the host in one piece."""
        table = torch.stack([torch.stack(list(tokens)).double(), torch.stack(list(values)).double()]).tolist()
        for ids, found in zip(*table, strict=True):
            for seat, token, score in zip(seats, ids, found, strict=True):
                try:
                    seat.record(self.base, int(token), score, self.cuts)
                except MascError as error:
                    fail = self._fail()
                    assert fail is not None, "whoever runs a pool holds its stage"
                    fail(seat.one.row, error)

    def leave(self) -> list[Seat]:
        """Take out who is through; the last ones move into the free slots. A row keeps what it wrote and said."""
        leaving = [slot for slot, seat in enumerate(self.seats) if seat.through]
        if not leaving:
            return []
        found = []
        order = list(range(len(self.seats)))
        for slot in reversed(leaving):
            seat = self.seats[slot]
            found.append(seat)
            if not seat.one.row.over:
                self._finish(seat, slot)
            last = self.seats.pop()
            if slot < len(self.seats):
                self.slots.move(len(self.seats), slot)
                self.seats[slot], order[slot] = last, order[len(self.seats)]
        self._pending = self._pending[torch.tensor(order[: len(self.seats)], dtype=torch.long, device=self.base.device)]
        self._steps = None
        return found[::-1]

    def _finish(self, seat: Seat, slot: int) -> None:
        one, said = seat.one, seat.said(self.base)
        one.row.stretches[one.turn.activation] = self.writer.stretch(self.slots, slot, one, seat.tokens)
        one.row.texts[one.turn.activation] = said.text
        one.row.said[one.turn.said] = said
        self.wanted += len(seat.ids) + (seat.end is not None)
