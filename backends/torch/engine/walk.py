"""One pass over a plan's turns for one batch of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from masc.backends.torch.channels.arrivals import arriving, change_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.decoding import Decoded, decode
from masc.backends.torch.engine.fast.adapters import adapting
from masc.backends.torch.engine.given import Tokens
from masc.backends.torch.engine.joining import Ready, joinable, joins, together
from masc.backends.torch.engine.labels import Label, label_of
from masc.backends.torch.engine.lengths import check_end, check_sizes, limit_of
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.patches import patched_segment, patched_texts, patched_thinking
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.engine.recorded import WIDTH, Recordings
from masc.backends.torch.engine.refusals import answer_too_long, empty_prompt, no_numbers
from masc.backends.torch.engine.rollout import activate
from masc.backends.torch.engine.rounds import noting
from masc.backends.torch.engine.script import Activated, Block, Script, Thinking, gate_block, padded, prompt_block
from masc.backends.torch.engine.stopping import cut_at_stop
from masc.backends.torch.model import adapters, applying
from masc.backends.torch.model.align import embedding
from masc.backends.torch.model.attention import watching
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.gates import plain
from masc.backends.torch.model.prompts import Prompt, answer_ids, check_size, prompt_of, value
from masc.backends.torch.model.repeating import repeated
from masc.backends.torch.model.segments import Opening, Past, Segment, States, look, start_of
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.analysis.handing import state_from
from masc.compiler.analysis.sights import sights
from masc.compiler.analysis.waves import before, siblings
from masc.compiler.forms.plan_text import gate_text, reach_text
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import Across, Think, Turn, View, agent_of


def _beside(draws: Tensor | None, gate: nn.Module) -> Tensor | None:
    """What a gate is drawn from, where it is."""
    return None if draws is None else draws.to(next(gate.parameters()).device)


class Walk:
    """One pass over the plan's turns for one batch of rows."""

    def __init__(
        self,
        modules: Modules,
        rows: Sequence[Row],
        opening: Opening | None,
        recompute: bool,
        columns: Mapping[str, str] | None,
        indices: Sequence[int] | None = None,
        probe: Probe | None = None,
        decoding: Decoding = AS_WRITTEN,
        samples: Sequence[int] | None = None,
        cuts: bool = False,
        graph: bool = False,
        given: Mapping[str, Tokens] | None = None,
        group: int = 1,
    ) -> None:
        """columns: by answer (`Turn.said`) the data column that supervises it, for teacher forcing; None: decode.
        probe: what is done to an edge, to find out whether it matters. samples: which sample of its row each one is,
        from 0 (None: the first of each); others are drawn with other seeds. cuts: an answer that reaches the model's
        last position ends there, which is told (`Decoded.cut`), instead of being an error (E0606). graph: every turn
        keeps its gradient graph, also one that no loss is behind. given: by answer its token ids, for teacher forcing
        without a text; they win over `columns`. group: answers to each row, one after the other, of which `samples`
        and `given` tell (`given` may tell one for all of a row's). What nothing sampled has come into is computed once
        for all of them."""
        self.modules, self.rows, self.opening, self.recompute = modules, rows, opening, recompute
        self.here = modules.here
        self.plan = modules.plan
        self.columns = columns
        self.given = given or {}
        self.probe, self.decoding, self.cuts, self.graph = probe, decoding, cuts, graph
        self.samples = [0] * len(rows) * group if samples is None else list(samples)
        self.group = group
        """Answers to each of `rows`: 1 once something reads of answers that differ, for each has a row of its own."""
        self._apart: set[str] = set()
        """The activations whose answers differ within a row's group."""
        self.indices = list(range(len(rows))) if indices is None else list(indices)
        self.segments: dict[str, Segment] = {}
        self.activated: dict[str, Activated] = {}
        self.pasts: dict[str, Past | None] = {}
        self.prompts: dict[str, list[Prompt]] = {}
        self.texts: dict[str, list[str]] = {}
        """By activation, what it said to other agents: a text for each row."""
        self.labels: dict[str, Block] = {}
        self.decoded: dict[str, list[Decoded]] = {}
        """By answer (`Turn.said`), what was said in a teacher-forced pass where nothing told it."""
        self.sights = sights(self.plan)
        draws = {} if opening is None else opening.gates
        with torch.no_grad() if opening is not None and opening.judged else nullcontext():
            self.gates = {name: gate(_beside(draws.get(name), gate)) for name, gate in modules.gates().items()}
        """How far the gates of edges are open in this pass, by the edge's name: [B] or [1]."""
        self.plain = plain(self.gates)
        # Without the edge that is probed a gate may have a say that has none beside it.
        looked_at = [self.sights, *([] if probe is None else [probe.sights])]
        views = [view for found in looked_at for several in found.values() for view in several]
        named = {gate: gate_text(gate) for view in views for gate in view.gates}
        self.open = {gate: self.plain[name] for gate, name in named.items() if name in self.plain}
        self.positions = 0
        self._settled: set[str] = set()

    # -- what channels ask -----------------------------------------------------------------------------------------

    @property
    def altering(self) -> Probe | None:
        return self.probe

    @property
    def device(self) -> torch.device:
        return self.modules.device

    def base(self, agent: str) -> Base:
        return self.modules.base(agent)

    def link(self, turn: Turn, arrival: Arrival) -> nn.Module:
        return self.modules.link(arrival.kind, agent_of(arrival.segment), turn.agent)

    def named(self, turn: Turn) -> Label:
        """Names kinds of a turn's work for a profiler, if there is one."""
        return label_of(self.here.profiled, turn.activation)

    def gate(self, turn: Turn, arrival: Arrival) -> Tensor | None:
        name = reach_text(Across(arrival.kind, agent_of(arrival.segment), turn.agent))
        return self.gates[name] if arrival.gated and name in self.plain else None

    # -- a pass ----------------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Turn]:
        """Run the plan; stop at each turn that answers, when its segment is there up to the answer (with a label: past
        it). While decoding, whoever takes a turn calls `finish` before the next step."""
        for turn in self.plan.turns:
            if turn.activation not in self.segments:  # computed beside another one
                with self.named(turn)("prepare"):
                    self._activate(turn)
            if turn.answer is not None:
                yield turn

    # -- what is refused ---------------------------------------------------------------------------------------------

    def check_numbers(self, agent: str, found: Tensor) -> None:
        """E0701 where what an agent computes, a tensor [B, ...], holds NaN or infinities."""
        if not bool(found.isfinite().all()):
            numbers = found.flatten(1).isfinite().all(1).tolist()
            raise no_numbers(agent, self._indices(len(numbers))[numbers.index(False)])

    def _indices(self, count: int) -> list[int]:
        """The numbers of the rows of so many answers, or of the rows themselves."""
        return repeated(self.indices, count // len(self.indices))

    # -- answers that differ ---------------------------------------------------------------------------------------

    def _part(self) -> None:
        """From here on each answer has a row of its own."""
        group, self.group = self.group, 1
        self.rows, self.indices = repeated(list(self.rows), group), repeated(self.indices, group)
        count = len(self.rows)
        self.segments = {name: repeated(one, count // len(one.real)) for name, one in self.segments.items()}
        self.prompts = {name: repeated(one, count // len(one)) for name, one in self.prompts.items()}
        self.texts = {name: repeated(one, count // len(one)) for name, one in self.texts.items()}

    # -- writing segments ------------------------------------------------------------------------------------------

    def _activate(self, turn: Turn) -> None:
        self._settle()
        if self._apart.intersection(before(turn)):
            self._part()
        ready = [self._ready(one) for one in (turn, *self._beside(turn))]
        done = self._together(ready) if joinable(ready) else [self._alone(one) for one in ready]
        for one, made in zip(ready, done, strict=True):
            self._written(one, made)

    def _beside(self, turn: Turn) -> list[Turn]:
        """Turns that can be computed in one batch with this one now, where training wants it."""
        here = self.here
        looked = self.probe is not None or here.looked is not None or here.patches is not None
        if looked or self.recompute or self._apart or not torch.is_grad_enabled():
            return []
        names = [name for name in self._siblings.get(turn.activation, ()) if name not in self.segments]
        if len(names) < 2 or not joins(self.base(turn.agent)):
            return []
        others = [one for one in self.plan.turns if one.activation in names and one is not turn]
        return [one for one in others if self.segments.keys() >= set(before(one))]

    @cached_property
    def _siblings(self) -> Mapping[str, tuple[str, ...]]:
        return siblings(self.plan, self.sights)

    def _ready(self, turn: Turn) -> Ready:
        """What a turn is computed from."""
        name, agent = turn.activation, turn.agent
        spec, base = self.plan.agent(agent), self.modules.base(agent)
        arrived = arriving(self, turn)
        check_sizes(base, agent, arrived.contents, self.indices, self.here.max_length)
        aligned = frozenset(self.plan.inputs) if turn.changed or turn.kept("prompt") else frozenset()
        prompts = [prompt_of(base, spec, filled, aligned) for filled in arrived.contents]
        for filled, i in zip(prompts, self.indices, strict=True):
            if not filled.ids:
                raise empty_prompt(agent, i)
        prompt = prompt_block(base, prompts, arrived.vectors, self._multiple)
        script = Script(
            prompt=prompt,
            start=start_of(turn.at, self.segments, prompt.real),
            change=change_of(self, turn, prompts),
            thinking=None if turn.think is None else self._thinking(base, turn, turn.think, len(prompts)),
            hidden=turn.kept("hidden"),
            gate=gate_block(base, prompts, arrived.gate, self._multiple),
            followed=turn.read_to_end,
            named=self.named(turn),
            name=name,
        )
        self.prompts[name] = prompts
        past, crossed = self._look(turn)
        self.pasts[name] = past
        label = None if turn.answer is None or self.columns is None else self._label(base, script, past, turn)
        whole = replace(script, label=label)
        end = script.start + script.prompt.real.sum(1) + (0 if turn.think is None else turn.think.steps)
        end = end if label is None else repeated(end, whole.group) + label.real.sum(1)
        check_end(base, agent, end, self._indices(len(end)), self.here.max_length)
        spliced = [(part.arrival, part.width) for part in arrived.parts]
        watch = None if self.probe is None else self.probe.watch(turn, crossed, spliced, prompts[0].ids, base.device)
        return Ready(turn, whole, past, watch)

    def _look(self, turn: Turn) -> tuple[Past | None, Tensor | None]:
        """What a turn sees, and which columns of it came through the probed edge."""
        crossed: Tensor | None = None
        base, views = self.base(turn.agent), self.sights[turn.activation]
        if self.probe is None:
            past = look(views, self.segments, self._opened(base), base.layers, base.rotate, self.open)
        else:
            past, crossed = self.probe.look(turn.activation, views, self.segments, base.layers, base.rotate, self.open)
        if past is not None and base.recurrent is not None:
            past = replace(past, states=self._states(turn.agent, views))
        return past, crossed

    def _alone(self, ready: Ready) -> Activated:
        """What a turn writes, computed by itself."""
        turn, base, adapter = ready.turn, self.base(ready.turn.agent), self.plan.agent(ready.turn.agent).adapter
        looked = nullcontext() if self.here.looked is None else self.here.looked(self, turn)
        with nullcontext() if turn.gradient or self.graph else torch.no_grad(), watching(ready.watch), looked:
            aliases = noting(self.here.rounds, base, adapter, turn.activation)
            quick = self._quick(base, adapter, len(ready.script.start))
            recordings = self._recordings if ready.watch is None else None
            return activate(base, adapter, ready.script, ready.past, self.recompute, aliases, quick, recordings)

    def _together(self, ready: Sequence[Ready]) -> list[Activated]:
        """What turns write, computed in one batch."""
        turn, base = ready[0].turn, self.base(ready[0].turn.agent)
        adapters = [self.plan.agent(one.turn.agent).adapter for one in ready]
        with nullcontext() if turn.gradient or self.graph else torch.no_grad():
            several = zip(ready, adapters, strict=True)
            noted = [noting(self.here.rounds, base, adapter, one.turn.activation) for one, adapter in several]
            return together(base, adapters, ready, noted, self._recordings, self.here.profiled)

    def _written(self, ready: Ready, done: Activated) -> None:
        """Note what a turn has written."""
        name, script = ready.turn.activation, ready.script
        if not torch.is_grad_enabled():  # in training the loss says it, once a step
            self.check_numbers(ready.turn.agent, done.last)
        self.segments[name], self.activated[name] = done.segment, done
        if script.group > 1:
            self._apart.add(name)
        steps = 0 if script.thinking is None else script.thinking.steps
        read = (*script.prompt.lengths, *(() if script.label is None else script.label.lengths))
        self.positions += sum(read) + steps * len(script.start)

    @property
    def _recordings(self) -> Recordings | None:
        """Where activations are recorded; None: somebody looks at what they do."""
        here = self.here
        plain = here.patches is None and here.looked is None and not here.profiled
        return here.recordings if plain else None

    @property
    def _multiple(self) -> int:
        """What the widths of prompts and labels are multiples of."""
        return 1 if self.here.recordings is None else WIDTH

    def _states(self, agent: str, views: Sequence[View]) -> States:
        """What layers of a recurrent model begin with, who sees these views. E0523 where nobody has it."""
        last = state_from(agent, views, self.sights)
        states = self.segments[last].states
        stop = any(view.stop for view in views if view.segment == last)
        return tuple(state.detach() for state in states) if stop else states

    def _opened(self, base: Base) -> Opening | None:
        """Where training stands, on a model's device."""
        opening = self.opening
        return (
            opening if opening is None or opening.draws.device == base.device else opening.of(slice(None), base.device)
        )

    def _quick(self, base: Base, adapter: str | None, batch: int) -> AbstractContextManager[None] | None:
        """Where it is wanted and no gradient is: the adapter in the dtype of the base, as the fast engine has it."""
        if not self.here.quick or torch.is_grad_enabled() or base.recurrent is not None or self.group > 1:
            return None  # whose rows are not all read at once
        return adapting(base, [adapter], (), fold=False)([adapter] * batch)

    def _label(self, base: Base, script: Script, past: Past | None, turn: Turn) -> Block | None:
        """What an answering agent reads as its answer: what supervises it, else (for text that no column supervises)
        what it says now. The end of the turn is read only where somebody looks at this segment."""
        assert self.columns is not None
        assert turn.answer is not None
        name = turn.activation
        if (told := self._told(base, turn)) is not None:
            ids, self.texts[name] = told
            full = self.labels[turn.said] = padded(base, ids, self._multiple)
            if turn.read_to_end:
                return full
            # The last token of each row is predicted and not read, however wide the block is.
            return Block(full.inputs[:, :-1], full.real[:, 1:], tuple(length - 1 for length in full.lengths))
        with torch.no_grad(), applying.still():
            adapter = self.plan.agent(turn.agent).adapter
            self.activated[name] = activate(base, adapter, script, past)
            with self.named(turn)("decode"):
                *_, said = self.decode(turn)
        self.decoded[turn.said] = said
        self.texts[name] = [cut_at_stop(base.text(one.ids), turn.answer.sampling) for one in said]
        if not turn.read_to_end:
            return None
        ids = [[*one.ids, *([] if one.end is None else [one.end])] for one in said]
        return padded(base, ids, self._multiple)

    def _told(self, base: Base, turn: Turn) -> tuple[Tokens, list[str]] | None:
        """The tokens, the end included, and the texts that an answer is to be; None: it is not told."""
        assert self.columns is not None
        assert turn.answer is not None
        if (ids := self.given.get(turn.said)) is not None:
            said = [one[:-1] if one[-1] in base.stop_ids else one for one in ids]
            return ids, [cut_at_stop(base.text(one), turn.answer.sampling) for one in said]
        if (column := self.columns.get(turn.said)) is None:
            return None
        texts = [value(row, column, i) for row, i in zip(self.rows, self.indices, strict=True)]
        for text, i in zip(texts, self.indices, strict=True):
            check_size(base, [text], limit_of(base, self.here.max_length), f"row {i + 1}")
        return [answer_ids(base, text) for text in texts], texts

    def _thinking(self, base: Base, turn: Turn, think: Think, batch: int) -> Thinking:
        matrix, through = self.modules.links.get(turn.agent), partial(embedding, base, think.align)
        thinking = Thinking(think.steps, through(matrix), think.stop, matrix=matrix, through=through, align=think.align)
        if self.here.patches is None:
            return thinking
        return patched_thinking(self.here.patches, turn.activation, thinking, batch, base.width)

    def _settle(self) -> None:
        """Put patches in the place of what earlier activations wrote and said, once they are through."""
        patches = self.here.patches
        if patches is None:
            return
        for name in self.segments.keys() - self._settled:
            self.segments[name] = patched_segment(patches, name, self.segments[name])
            if name in self.texts:
                self.texts[name] = patched_texts(patches, name, self.texts[name])
        self._settled |= self.segments.keys()

    # -- decoding --------------------------------------------------------------------------------------------------

    def finish(self, turn: Turn) -> list[Decoded]:
        """Decode a turn's answer to its end; other agents read it from `texts`."""
        *_, said = self.decode(turn)
        return self.finished(turn, said)

    def finished(self, turn: Turn, said: list[Decoded]) -> list[Decoded]:
        """What `finish` gives, for whoever has decoded the answer to its end: the last of `decode`."""
        assert turn.answer is not None
        base, sampling = self.modules.base(turn.agent), self.decoding.of(turn.answer).sampling
        whole = [base.text(one.ids) for one in said]
        self.texts[turn.activation] = [cut_at_stop(text, sampling) for text in whole]
        for one, text, kept in zip(said, whole, self.texts[turn.activation], strict=True):
            one.cut = one.end is None and text == kept
        return said

    def decode(self, turn: Turn) -> Iterator[list[Decoded]]:
        """Decode one answer; yields the state after each token."""
        assert turn.answer is not None
        activation, agent = turn.activation, turn.agent
        answer = self.decoding.of(turn.answer)
        base, adapter = self.modules.base(agent), self.plan.agent(agent).adapter
        activated = self.activated[activation]
        past = self.pasts[activation]
        if self.group > 1 and answer.sampling.temperature:
            activated, past = repeated((activated, past), self.group)
            self._apart.add(activation)
        indices = self._indices(len(activated.last))
        drawn = zip(indices, self.samples[:: len(self.samples) // len(indices)], strict=True)
        seeds = [adapters.derive(answer.sampling.seed, turn.said, i, *([k] if k else [])) for i, k in drawn]
        room = base.max_positions or 1 << 30
        limits = [max(1, room - int(end)) for end in activated.segment.end("all")]
        for state, segment in decode(base, adapter, activated, past, answer.sampling, seeds, limits, turn.read_to_end):
            for sample, i in zip(state, indices, strict=True):
                if not all(map(math.isfinite, sample.scores)):
                    raise no_numbers(agent, i)
            for sample in state if answer.sampling.stop else []:
                text = base.text(sample.ids)
                sample.done = sample.done or any(stop in text for stop in answer.sampling.stop)
            self.segments[activation] = segment
            for sample, limit, i in zip(state, limits, indices, strict=True):
                ended = sample.done and sample.end is None and len(sample.ids) == limit
                if ended and limit < answer.sampling.max_tokens and not self.cuts:
                    raise answer_too_long(i, base.max_positions)
            yield state
