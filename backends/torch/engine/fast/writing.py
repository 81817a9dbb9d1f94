"""Writing segments: the turns of one wave for some rows, prompts and latent steps, in slots of one cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from masc.backends.torch.channels.arrivals import arriving, change_of
from masc.backends.torch.channels.bringing import Change
from masc.backends.torch.engine.fast.adapters import Adapting, alone
from masc.backends.torch.engine.fast.beginnings import Beginning, Beginnings
from masc.backends.torch.engine.fast.rows import SideBySide, Stretch, Travelling
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.refusals import empty_prompt, too_long
from masc.backends.torch.engine.script import padded, prompt_block
from masc.backends.torch.model.align import embedding
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.cache import Slots, Steps
from masc.backends.torch.model.layout import Packed
from masc.backends.torch.model.prompts import Prompt, check_size, prompt_of
from masc.compiler.analysis.handing import state_from
from masc.compiler.analysis.sights import Sights
from masc.compiler.analysis.waves import Needed
from masc.compiler.ir.plan import Plan, Turn
from masc.compiler.ir.ranges import Layers, union


@dataclass
class Writing:
    """One turn of one row, being written in a slot. begin: the slot's first column that is its own; beginning: what its
    prompt begins with that has been read for all rows; hidden: final hidden states of its prompt and latents, [P + m,
    d], where somebody is sent them."""

    turn: Turn
    row: Travelling
    prompt: int
    start: int
    begin: int
    beginning: Beginning | None = None
    hidden: Tensor | None = None

    @property
    def to_read(self) -> int:
        """Tokens of its prompt that have not been read."""
        return self.prompt - (0 if self.beginning is None else len(self.beginning.ids))


@dataclass(frozen=True)
class _Read:
    """What one turn's rows read: prompts, padded inputs [b, W] or [b, W, d] of them (less what has been read of their
    beginnings), and what others change in them."""

    turn: Turn
    prompts: list[Prompt]
    inputs: Tensor
    change: Change | None
    beginnings: list[Beginning | None]


class Writer:
    """Writes the turns of one stage. They are on one base model; those with more latent steps come first, so that the
    rows that still think are always the first."""

    def __init__(
        self,
        modules: Modules,
        plan: Plan,
        turns: Sequence[Turn],
        sights: Sights,
        needs: Mapping[str, Needed],
        rows: int,
    ) -> None:
        """rows: how many will be written in all."""
        self.modules, self.plan, self.needs = modules, plan, needs
        self.turns = sorted(turns, key=lambda turn: -_steps(turn))
        self.base: Base = modules.base(turns[0].agent)
        self.changed = turns[0].changed
        self.by_layer = self.base.windows is not None or any(
            view.layers is not None for turn in turns for view in sights[turn.activation]
        )
        """Whether layers differ in what they see."""
        self.embeds = {
            turn.activation: embedding(self.base, turn.think.align, modules.links.get(turn.agent))
            for turn in turns
            if turn.think is not None
        }
        self.beginnings = {turn.activation: Beginnings(rows) for turn in turns}
        self.views = {turn.activation: _by_segment(turn, sights) for turn in turns}
        self.stateful = self.base.recurrent is not None
        seen = {turn: sights[turn.activation] for turn in turns if self.stateful and sights[turn.activation]}
        self.handed = {turn.activation: state_from(turn.agent, views, sights) for turn, views in seen.items()}
        """By turn, the segment from whose states it goes on."""
        self.continued = self.stateful and any(needs[turn.activation].all for turn in turns)
        """Whether somebody goes on from the states at the end of what is written here, which must not be run past."""
        self.apart = self.stateful and len({self.adapter(turn) for turn in turns}) > 1
        """Whether turns read their prompts one after the other: of models with states rows may be read in parts, and
        adapters that are applied side by side are chosen for all rows of a batch."""
        limits = (self.base.max_positions, modules.here.max_length)
        self.limit = min((n for n in limits if n), default=0)

    def adapter(self, turn: Turn) -> str | None:
        return self.plan.agent(turn.agent).adapter

    def write(
        self, slots: Slots, at: int, rows: Sequence[Travelling], adapting: Adapting
    ) -> tuple[list[Writing], Tensor]:
        """Write all turns of some rows into slots from `at` on, turn by turn. Returns what is in which slot, and the
        hidden states that predict what comes next, [n, 1, d]."""
        read = [self._arrived(turn, rows, slots, at, adapting) for turn in self.turns]
        found: list[Writing] = []
        for one in read:
            found += self._placed(one, rows, slots, at + len(found))
        states: list[Tensor] = []
        ends: list[Tensor] = []
        for several in [[one] for one in read] if self.apart else [read]:
            first, count = len(states), len(several) * len(rows)
            adapters = [self.adapter(each.turn) for each in found[first : first + count]]
            with alone(self.base, adapters[0])(adapters) if self.apart else adapting(adapters):
                hidden, end = self._prompts(slots, at + first, found[first : first + count], several)
            states += hidden
            ends.append(end)
        last = torch.cat(ends)
        for each, own in zip(found, states, strict=True):
            if self.needs[each.turn.activation].hidden:
                before = [] if each.beginning is None else [each.beginning.hidden]
                each.hidden = torch.cat([*before, own[: each.to_read]])
        return found, self._think(slots, at, found, last, adapting)

    # -- before a pass ---------------------------------------------------------------------------------------------

    def _arrived(self, turn: Turn, rows: Sequence[Travelling], slots: Slots, at: int, adapting: Adapting) -> _Read:
        """What a turn reads: its prompts with what arrives in them. at: a slot that is free."""
        running = SideBySide(self.modules, self.plan, turn, rows)
        spec = self.plan.agent(turn.agent)
        arrived = arriving(running, turn)
        for filled, row in zip(arrived.contents, rows, strict=True):
            texts = [text for text in filled.values() if isinstance(text, str)]
            check_size(self.base, texts, self.limit, f"row {row.job.index + 1}: the prompt of agent `{turn.agent}`")
        aligned = bool(turn.changed or self.needs[turn.activation].prompt)
        spans = frozenset(self.plan.inputs) if aligned else frozenset[str]()
        prompts = [prompt_of(self.base, spec, filled, spans) for filled in arrived.contents]
        for prompt, row in zip(prompts, rows, strict=True):
            if not prompt.ids:
                raise empty_prompt(turn.agent, row.job.index)
            if self.needs[turn.activation].prompt:
                row.prompts[turn.activation] = prompt
        change = change_of(running, turn, prompts)
        vectors = arrived.vectors
        plain = change is None and vectors is None
        if self.stateful or self.views[turn.activation] or turn.at or not plain:  # states go on in rows of one length
            block = prompt_block(self.base, prompts, vectors)
            return _Read(turn, prompts, block.inputs, change, [None] * len(rows))

        def reading(ids: Sequence[int]) -> Beginning:
            slots.clear(at, 0)
            with adapting([self.adapter(turn)]):
                states = slots.read(at, torch.tensor([list(ids)], device=slots.device), [len(ids)])
            return Beginning(tuple(ids), slots.taken(at, 0, len(ids)), states[0])

        shared = self.beginnings[turn.activation].of(prompts, reading)
        found = [shared if shared is not None and shared.starts(prompt) else None for prompt in prompts]
        rest = [p.ids[0 if one is None else len(one.ids) :] for p, one in zip(prompts, found, strict=True)]
        return _Read(turn, prompts, padded(self.base, rest).inputs, None, found)

    def _placed(self, read: _Read, rows: Sequence[Travelling], slots: Slots, at: int) -> list[Writing]:
        """Put what each row sees into its slot."""
        turn = read.turn
        starts = [row.start(turn.at) for row in rows]
        ends = [start + len(p.ids) + _steps(turn) for start, p in zip(starts, read.prompts, strict=True)]
        worst = ends.index(max(ends))
        if self.limit and ends[worst] > self.limit:
            raise too_long(turn.agent, rows[worst].job.index, ends[worst], self.limit)
        found = []
        whole = zip(rows, starts, read.prompts, read.beginnings, strict=True)
        for slot, (row, start, prompt, beginning) in enumerate(whole, at):
            slots.clear(slot, start)
            if (last := self.handed.get(turn.activation)) is not None:
                slots.begin(slot, row.stretches[last].states)
            for segment, (parts, shift) in self.views[turn.activation].items():
                self._look(slots, slot, row.stretches[segment], parts, row.moved(shift), bool(shift))
            found.append(Writing(turn, row, len(prompt.ids), start, slots.length[slot], beginning))
            if beginning is not None:
                slots.add(slot, beginning.kv, start, None)
                slots.position[slot] += len(beginning.ids)
        return found

    def _look(
        self, slots: Slots, slot: int, stretch: Stretch, parts: Mapping[str, Layers], moved: int, turn: bool
    ) -> None:
        """Put one segment into a slot. parts: which layers see all of it, and which its latents. turn: it is moved."""
        if stretch.kv is None:  # its latents are seen, and it has none
            return
        kv, place = stretch.columns("all" if "all" in parts else "latents")
        if turn:
            kv = self._turned(kv, moved)
        seen = parts["all"] if "all" in parts else parts["latents"]
        first = slots.length[slot]
        slots.add(slot, kv, place + moved, seen)
        if "all" in parts and "latents" in parts:
            begin = first + stretch.prompt
            slots.show(slot, begin, begin + stretch.latents, parts["latents"])

    def _turned(self, kv: Packed, moved: int) -> Packed:
        """Keys and values with the keys moved to later positions."""
        layout, _ = self.base.kept
        offset = torch.tensor([moved], device=self.base.device)
        pairs = enumerate(layout.layers(kv))
        return layout.pack(tuple((self.base.rotate(k[None], offset, layer)[0], v) for layer, (k, v) in pairs))

    # -- passes ----------------------------------------------------------------------------------------------------

    def _prompts(self, slots: Slots, at: int, found: Sequence[Writing], read: Sequence[_Read]) -> tuple[Tensor, Tensor]:
        """Read all prompts: final hidden states [n, W, d] of their tokens, and those of the last ones [n, 1, d]."""
        inputs = self._beside([one.inputs for one in read])
        counts = [one.to_read for one in found]
        end = torch.tensor(counts, device=slots.device)[:, None] - 1
        if not self.changed:
            states = slots.read(at, inputs, counts)
            return states, _at(states, end)
        short = inputs.shape[1] - 1
        parts = []
        if short:
            parts.append(slots.read(at, inputs[:, :short], [count - 1 for count in counts]))
            for one in read:
                many = len(one.prompts)
                self._change(slots, at, found[:many], one.change)
                at, found = at + many, found[many:]
            at -= len(counts)
        last = slots.read(at, _at(inputs, end), [1] * len(counts))
        wide = torch.cat([*parts, last], 1)
        return wide.scatter(1, end[..., None].expand(-1, -1, last.shape[2]), last), last

    def _beside(self, blocks: Sequence[Tensor]) -> Tensor:
        """Inputs of several turns as one block; embeddings, if those of one are."""
        if len(blocks) == 1:
            return blocks[0]
        wide = max(block.shape[1] for block in blocks)
        if any(block.is_floating_point() for block in blocks):
            blocks = [block if block.is_floating_point() else self.base.embed(block) for block in blocks]
            return torch.cat([functional.pad(block, (0, 0, 0, wide - block.shape[1])) for block in blocks])
        return torch.cat([functional.pad(one, (0, wide - one.shape[1]), value=self.base.padding) for one in blocks])

    def _change(self, slots: Slots, at: int, found: Sequence[Writing], change: Change | None) -> None:
        """Let others change the keys and values of the prompts of one turn, all but the last tokens."""
        if change is None:
            return
        short = max(one.prompt for one in found) - 1
        if not short:
            return
        columns = [slice(one.begin, one.begin + short) for one in found]
        own = [torch.stack([kv[:, at + i, :, one] for i, one in enumerate(columns)], 1) for kv in slots.kv]
        start = torch.tensor([one.start for one in found], device=slots.device)
        place = start[:, None] + torch.arange(short, device=slots.device)
        made = slots.layout.pack(change(slots.layout.layers(own), place))
        for kv, new in zip(slots.kv, made, strict=True):
            for i, one in enumerate(columns):
                kv[:, at + i, :, one] = new[:, i]

    def _think(self, slots: Slots, at: int, found: list[Writing], last: Tensor, adapting: Adapting) -> Tensor:
        """Take the latent steps of all rows that have some."""
        thoughts: list[Tensor] = []
        steps: Steps | None = None
        whole = _steps(self.turns[0])
        for step in range(whole):
            many = sum(_steps(one.turn) > step for one in found)
            adapters = tuple(self.adapter(one.turn) for one in found[:many])
            if steps is None or steps.last != at + many:
                steps = Steps(slots, at, at + many, whole - step, adapters)
            with adapting(adapters):
                parts = last[:many].chunk(many // (len(found) // len(self.turns)))
                turns = zip(self.turns, parts, strict=False)
                fed = torch.cat([self.embeds[turn.activation](part) for turn, part in turns])
                new = steps(fed)
            last = torch.cat([new, last[many:]])
            thoughts.append(new)
        for i, one in enumerate(found):
            if one.hidden is not None:
                one.hidden = torch.cat([one.hidden, *(new[i] for new in thoughts[: _steps(one.turn)])])
        return last

    # -- after a pass ----------------------------------------------------------------------------------------------

    def stretch(self, slots: Slots, slot: int, one: Writing, tokens: int = 0) -> Stretch:
        """What has been written in a slot, as far as somebody needs it. tokens: of the answer, that were read."""
        needs, latents = self.needs[one.turn.activation], _steps(one.turn)
        own = one.prompt + latents
        first = 0 if needs.all or needs.prompt else one.prompt
        last = own + tokens if needs.all else own if needs.latents else one.prompt
        kv = slots.taken(slot, one.begin + first, one.begin + last) if last > first else None
        states = slots.remembered(slot) if needs.all else ()
        return Stretch(one.start, one.prompt, latents, tokens, first, kv, one.hidden, states)


def _steps(turn: Turn) -> int:
    return 0 if turn.think is None else turn.think.steps


def _at(tensor: Tensor, column: Tensor) -> Tensor:
    """One column [n, 1] of each row: [n, W] or [n, W, d] to [n, 1] or [n, 1, d]."""
    if tensor.dim() == 2:
        return tensor.gather(1, column)
    return tensor.gather(1, column[..., None].expand(-1, -1, tensor.shape[2]))


def _by_segment(turn: Turn, sights: Sights) -> dict[str, tuple[dict[str, Layers], tuple[str, ...]]]:
    """By segment that a turn sees, which layers see all of it and which its latents, and what it is moved behind."""
    found: dict[str, tuple[dict[str, Layers], tuple[str, ...]]] = {}
    for view in sights[turn.activation]:
        if view.until is None:
            parts, _ = found.setdefault(view.segment, ({}, view.shift))
            parts[view.part] = union(parts[view.part], view.layers) if view.part in parts else view.layers
    return found
