"""Program: a compiled graph as one `torch.nn.Module`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from masc.backends.torch.data.check import answer_columns
from masc.backends.torch.data.rows import rows_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.fast.pipeline import Pipeline, Source
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.engine.given import Tokens, check_given
from masc.backends.torch.engine.measuring import measure
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.opening import opening_at, without_step
from masc.backends.torch.engine.outputs import Output, Said, Scored, said_of, scored_by
from masc.backends.torch.engine.patches import Patches
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.engine.trace import Trace, patches_of, trace_of
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.init_from import Taken, init_from
from masc.backends.torch.model import adapters, applying
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import answer_ids, value
from masc.backends.torch.model.repeating import repeated, runs
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.model.stored import file_of, pack, unpack
from masc.backends.torch.shown import drawing_of, html_of
from masc.backends.torch.streaming import stream_of
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding, Engine, decoding_of
from masc.compiler.artifact import (
    Layout,
    atomic_write,
    has_adapters,
    is_other_rank,
    known_manifest,
    save_artifact,
    writing,
)
from masc.compiler.ir.plan import Turn
from masc.compiler.models.peft import CONFIG, WEIGHTS
from masc.compiler.models.registry import REGISTRY
from masc.dsl.diagnostics import fail


class _Decoding(TypedDict, total=False):
    """The fields of a `Decoding`, by name."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    stop: Sequence[str] | None


class Program(Modules):
    """A plan that runs. Call it with rows (dicts: inputs and answer columns by name) for a differentiable loss."""

    def forward(
        self,
        rows: Sequence[Row],
        opening: Opening | None = None,
        recompute: bool = False,
        indices: Sequence[int] | None = None,
        texts: bool = True,
        probe: Probe | None = None,
        step: int | None = None,
        answers: Mapping[str, Tokens] | None = None,
        group: int = 1,
    ) -> Output:
        """Teacher-forced pass over rows. Every loss column must be there (E0604).

        answers: by output (by activation: what agents tell each other) the token ids of each row's answer; they alone
        are scored, and no column is read. See `score`. group: so many answers to each row, one after the other, which
        are scored from one pass over what comes before them; of what agents tell each other also one to each row.

        step: of training, from 0, in a loop of one's own: channels with `open = N` are as far open as they are then,
        for the rows that the trainer would draw were these its batch. Without it they are as they are in the end
        (W0310 once, in training mode).

        texts: False: outputs alone are scored; what agents say to each other is decoded as it is when the program runs,
        though a column supervises it. opening: as `step`, and for which rows they are open; None: for none. recompute:
        an agent's activations are computed again in the backward pass (`checkpoint = agent`). indices: the rows'
        numbers in the data, for errors. probe: what is done to an edge (`masc audit`).
        """
        rows = rows_of(rows, "rows")
        if answers is not None:
            check_given(self.plan, answers, len(rows), group, lambda agent: self.base(agent).rows)
        if group > 1 and (answers is None or step is not None or opening is not None or probe is not None):
            raise ValueError("several answers to each row are scored as they were decoded: give `answers` alone")
        if answers is None or step is not None:  # what is scored as it was decoded has its channels closed: no W0310
            opening = self._opened(opening, step, len(rows))
        return self._forward(rows, opening, recompute, indices, texts, probe, answers=answers, group=group)[0]

    def score(
        self, rows: Sequence[Row], token_ids: Tokens | Mapping[str, Tokens], output: str | None = None, group: int = 1
    ) -> Tensor:
        """The log-probabilities of given tokens as the answers to rows: float32 [B, A], natural log, 0 where padded,
        differentiable. No column is read. token_ids: of each row's answer (`Said.tokens`), or by output; by activation
        what agents tell each other, decoded anew where it is not given. output: which is scored (None: the first).
        group: so many answers to each row, one after the other, which are scored from one pass over what comes before
        them: [B * group, A]. Channels with `open = N` are closed. ValueError: what is no answer to each row; E0606."""
        name = output or self.plan.outputs[0]
        given = token_ids if isinstance(token_ids, Mapping) else {name: token_ids}
        if name not in given:
            raise ValueError(f"there are no token ids for `{name}`")
        found: Output = self(rows, answers=given, group=group)
        return -found.outputs[name].losses

    def _forward(
        self,
        rows: Sequence[Row],
        opening: Opening | None = None,
        recompute: bool = False,
        indices: Sequence[int] | None = None,
        texts: bool = True,
        probe: Probe | None = None,
        graph: bool = False,
        answers: Mapping[str, Tokens] | None = None,
        group: int = 1,
    ) -> tuple[Output, Walk]:
        if not rows:
            raise ValueError("a forward pass needs at least one row")
        columns = {name: column for name, (_, column) in answer_columns(self.plan).items()}
        if answers is not None:
            columns = {}
        elif not texts:
            columns = {name: column for name, column in columns.items() if name in self.plan.outputs}
        walk = Walk(self, rows, opening, recompute, columns, indices, probe, graph=graph, given=answers, group=group)
        outputs: dict[str, Scored] = {}
        tokens = 0
        for turn in walk.steps():
            if turn.said not in walk.labels:
                continue
            activated, label = walk.activated[turn.activation], walk.labels[turn.said]
            hidden = torch.cat([activated.last, activated.label], 1)[:, : label.real.shape[1]]
            with walk.named(turn)("loss"):
                scored, broken = scored_by(self.base(turn.agent), hidden, label)
            if not torch.is_grad_enabled():
                walk.check_numbers(turn.agent, broken)
            tokens += sum(label.lengths)
            outputs[turn.said] = scored
        total = torch.stack([scored.losses.sum().to(self.device) for scored in outputs.values()]).sum()
        return Output(outputs, total / tokens, tokens, walk.positions), walk

    def _opened(self, opening: Opening | None, step: int | None, count: int) -> Opening | None:
        """Where a forward pass stands in the `open` phases."""
        if step is not None:
            if opening is not None:
                raise ValueError("give `step` or `opening`, not both")
            if step < 0:
                raise ValueError(f"step = {step} is negative; the first one is 0")
            return opening_at(self.plan.train.seed, step, count, self.gates()).of(slice(None), self.device)
        opens = any(view.until is not None for turn in self.plan.turns for view in turn.sees)
        silent = opening is None and self.training and torch.is_grad_enabled() and not self._told
        if silent and (opens or self.gates()):
            self._told = True
            warnings.warn("{0.code}: {0.message}".format(without_step(opens)), stacklevel=4)
        return opening

    def check_lengths(self, rows: Sequence[Row], labels: bool = True) -> None:
        """E0606 for the first row that will not fit, before anything is run. Lengths alone: no model is called. labels:
        with the answers that columns tell."""
        columns = {output: column for output, (_, column) in answer_columns(self.plan).items()} if labels else {}
        for i, row in enumerate(rows):
            measure(Walk(self, [row], None, False, columns, [i]))

    def forward_tokens(self, rows: Sequence[Row]) -> int:
        """How many answer tokens the loss over these rows is a mean of."""
        return sum(
            len(answer_ids(self.base(agent), value(row, column, i)))
            for agent, column in answer_columns(self.plan).values()
            for i, row in enumerate(rows)
        )

    @torch.no_grad()
    def say(
        self,
        rows: Sequence[Row],
        indices: Sequence[int] | None = None,
        probe: Probe | None = None,
        decoding: Decoding = AS_WRITTEN,
        samples: Sequence[int] | None = None,
        cuts: bool = False,
        engine: Engine = "fast",
    ) -> list[dict[str, Said]]:
        """Decode everything that is said for a batch of rows: by output, and by activation what agents tell each other.
        indices: the rows' numbers in the whole data (for seeds and errors). samples: which sample of its row each one
        is, from 0 (None: the first); what is drawn depends on nothing but seed, row and sample. cuts: an answer that
        reaches the model's last position is cut off there, instead of being an error (E0606). Nothing is dropped,
        whatever mode the program is in. engine: `fast`, or `exact` as training computes; probes and patches need
        the exact one, and have it."""
        if engine == "exact" or probe is not None or self.here.patches is not None or not self.flows:
            alike = probe is None and self.here.patches is None
            numbers = indices or range(len(rows))
            group = gcd(*runs(rows, numbers)) if alike else 1  # answers to each row
            first = slice(None, None, group)
            walk = Walk(
                self, rows[first], None, False, None, numbers[first], probe, decoding, samples, cuts, group=group
            )
            return self._say(walk)
        found = dict(self.say_each(rows, len(rows), indices, decoding, samples, cuts))
        return [found[number] for number in range(len(rows))]

    def say_each(
        self,
        rows: Sequence[Row],
        size: int,
        indices: Sequence[int] | None = None,
        decoding: Decoding = AS_WRITTEN,
        samples: Sequence[int] | None = None,
        cuts: bool = False,
    ) -> Iterator[tuple[int, dict[str, Said]]]:
        """As `say`, by the fast engine (by the exact one where that runs no such program, see `flows`), of any number
        of rows, `size` of them at once: (its place in `rows`, what was said for it) as rows come through, which is not
        their order."""
        numbers, drawn = indices or range(len(rows)), samples or [0] * len(rows)
        if not self.flows:
            parts = (slice(at, at + size) for at in range(0, len(rows), size))
            return enumerate(
                s for at in parts for s in self.say(rows[at], numbers[at], None, decoding, drawn[at], cuts)
            )
        jobs = iter([Job(i, *job, decoding) for i, job in enumerate(zip(rows, numbers, drawn, strict=True))])
        first = [replace(next(jobs), beside=tuple(islice(jobs, n - 1))) for n in runs(rows, numbers)]
        return Pipeline(self, Source(first), len(rows), size, cuts).results()

    @torch.no_grad()
    def _say(self, walk: Walk) -> list[dict[str, Said]]:
        said: list[dict[str, Said]] = [{} for _ in walk.samples]
        with applying.still():
            for turn in walk.steps():
                found = self._finish(walk, turn)
                for one, item in zip(said, repeated(found, len(said) // len(found)), strict=True):
                    one[turn.said] = item
        return said

    def trace(
        self, rows: Sequence[Row], *, forced: bool = False, step: int | None = None, decoding: Decoding = AS_WRITTEN
    ) -> Trace:
        """What happens, turn by turn, when the program runs on rows: prompts, latents, keys and values, texts
        (`TurnTrace` has the shapes).

        forced: a teacher-forced pass instead, as `program(rows, step=step)`, with its gradient graph and `output`.
        decoding: of the outputs, where it is not the graph's.
        """
        rows = rows_of(rows, "rows")
        if forced:
            output, walk = self._forward(rows, self._opened(None, step, len(rows)), graph=True)
            given = [(name, walk.texts[turn.activation]) for name, turn in self._answers()]
            answers = [{name: texts[i] for name, texts in given} for i in range(len(rows))]
            return trace_of(walk, answers, output)
        if not rows:
            raise ValueError("a trace needs at least one row")
        walk = Walk(self, rows, None, False, None, decoding=decoding)
        said = self._say(walk)
        return trace_of(walk, [{name: one[name].text for name in self.plan.outputs} for one in said], None)

    def _answers(self) -> list[tuple[str, Turn]]:
        answering = ((turn.answer, turn) for turn in self.plan.answering)
        return [(answer.output, turn) for answer, turn in answering if answer and answer.output is not None]

    def patched(self, patches: Trace | Patches) -> AbstractContextManager[None]:
        """Within it, in this thread, agents send something else: a whole Trace, or parts by activation and name.

            with program.patched({("planner#1", "latents"): vectors}):
                program.generate(rows)

        Parts: `latents` (input embeddings of the latent steps, [B, m, d]), `keys` and `values` (a tensor for each
        layer, [B, H, C, D]), `hidden` ([B, P + m, d]), `texts` (a string for each row); all shaped as in a `TurnTrace`
        of the same rows, padding included. A function is called with what would have been sent (of latents: one step at
        a time) and returns what is sent. Gradients reach the patches, but for edges that stop them. Latents change what
        the agent itself goes on with; the other parts only what others get. ValueError for an activation, part or shape
        that is not there.
        """
        return self.holding(patches=patches_of(self.plan, patches))

    def _finish(self, walk: Walk, turn: Turn) -> list[Said]:
        state = walk.finish(turn)
        texts = walk.texts[turn.activation]
        return [said_of(text, one.ids, one.scores, one.cut, one.end) for text, one in zip(texts, state, strict=True)]

    @overload
    def generate(
        self,
        rows: Sequence[Row],
        stream: Literal[False] = False,
        engine: Engine = "fast",
        **decoding: Unpack[_Decoding],
    ) -> list[Any]: ...
    @overload
    def generate(
        self, rows: Sequence[Row], stream: Literal[True], engine: Engine = "fast", **decoding: Unpack[_Decoding]
    ) -> Iterator[str]: ...
    def generate(
        self, rows: Sequence[Row], stream: bool = False, engine: Engine = "fast", **decoding: Unpack[_Decoding]
    ) -> list[Any] | Iterator[str]:
        """The answers to rows, in one batch: a list of strings, or of dicts (output name -> string) where the graph has
        several outputs. stream: rows is one row, and pieces of the (last) output's text come as they are decoded.
        engine: `fast`, or `exact` as training computes; both say the same but for rounding.

        decoding: `temperature` (0: greedy), `top_p`, `max_tokens`, `seed`, `stop` (texts) of the outputs, where they
        are not those of the graph. Errors: ValueError where one is out of range, TypeError for another name."""
        chosen, rows = decoding_of(decoding), rows_of(rows, "rows")
        if stream:
            if len(rows) != 1:
                raise ValueError("stream=True takes exactly one row")
            return stream_of(self, rows[0], chosen, engine)
        said = self.say(rows, decoding=chosen, engine=engine) if rows else []
        if len(self.plan.outputs) == 1:
            return [item[self.plan.outputs[0]].text for item in said]
        return [{name: item[name].text for name in self.plan.outputs} for item in said]

    # -- notebooks -------------------------------------------------------------------------------------------------

    def _repr_svg_(self) -> str | None:
        return None if (drawing := drawing_of(self)) is None else drawing._repr_svg_()

    def _repr_html_(self) -> str | None:
        return html_of(self)

    # -- copies ----------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        """A program of its own with the same weights, base models too."""
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(deepcopy(self.__dict__, memo))
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a program cannot be pickled: `program.save(folder)` writes it, and `masc.load` reads it")

    # -- files -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path | str, force: bool = False) -> None:
        """Write an artifact (`relay.masc`) with the weights as they are.

        MascError where that would lose weights that somebody trained: of another graph (E0513) or, but for `force`,
        of this one (E0621), or files that are not masc's (E0518); E0641 where another process writes there.
        """
        history = self.history
        if history.compilation is None:
            raise ValueError("only a program that was compiled from a file can be saved as an artifact")
        if history.altered:
            raise ValueError("a program whose edges are cut or made text is for looking at; save the whole one")
        if bad := [name for name, p in self.trainable().items() if not bool(p.isfinite().all())]:
            raise fail("E0617", f"`{bad[0]}` holds numbers that are not finite: this is not worth keeping")
        if is_other_rank():
            return  # of several processes that train together one saves
        root = Path(folder)
        with writing(root):
            known = known_manifest(Layout(root))
            trained = has_adapters(Layout(root)) if known is None else known.trained
            if trained and not force and history.loaded_from != root.resolve():
                raise fail("E0621", f"{root} holds trained weights", hint="save somewhere else, or give force=True")
            save_artifact(
                root,
                history.compilation,
                self.save_weights,
                models=self.model_records(),
                seed=self.seed,
                training=history.trained_by,
            )
        self.note(replace(history, loaded_from=root.resolve()))

    def init_from(self, folder: Path | str) -> Taken:
        """Begin with the adapters and links of another artifact, by name; says what fitted. E0615 on another base
        model, E0644 where nothing fits."""
        return init_from(self, Path(folder))

    def save_weights(self, folder: Path) -> None:
        """Write `adapters/<agent>/` (PEFT's format) and `channels.safetensors` (links) into a folder."""
        for agent in self.plan.agents:
            if agent.own is not None:
                place = folder / "adapters" / agent.name
                adapters.save(self.base(agent.name).model, agent.name, place, self._base_name(agent.model))
        if channels := self.channels():
            atomic_write(folder / "channels.safetensors", pack(channels))

    def _base_name(self, model: str) -> str:
        """What others find a base model by: its id on the hub, else its folder."""
        target = next(m.target for m in self.plan.models if m.name == model)
        base = self.bases[f"model_{model}"]
        assert isinstance(base, Base)
        return str(base.folder.absolute()) if target in REGISTRY or Path(target).is_absolute() else target

    @torch.no_grad()
    def load_weights(self, source: Path | Mapping[str, bytes]) -> None:
        """Put back what `save_weights` wrote: from a folder, or files by their path in it. E0617 where it does not fit;
        nothing has been changed then."""
        found: dict[nn.Parameter, Tensor] = {}
        for agent in self.plan.agents:
            if agent.own is not None:
                place = f"adapters/{agent.name}"
                model = self.base(agent.name).model
                try:
                    files = (file_of(source, f"{place}/{name}") for name in (CONFIG, WEIGHTS))
                    read = adapters.read(model, agent.name, *files)
                except (OSError, ValueError) as error:
                    raise fail("E0617", f"cannot use the adapter of `{agent.name}`, {place}: {error}") from None
                found |= {model.get_parameter(name): tensor for name, tensor in read.items()}
        if channels := self.channels():
            try:
                links = unpack(file_of(source, "channels.safetensors"), channels)
            except (OSError, ValueError) as error:
                raise fail("E0617", f"cannot use the links, channels.safetensors: {error}") from None
            found |= {channels[name]: tensor for name, tensor in links.items()}
        for parameter, tensor in found.items():
            parameter.copy_(tensor)
