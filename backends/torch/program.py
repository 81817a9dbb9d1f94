"""Program: a compiled graph as one `torch.nn.Module`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from masc.backends.torch import adapters
from masc.backends.torch.base import Base, pad
from masc.backends.torch.prompts import Row, answer_ids, prompt_ids, value
from masc.backends.torch.rollout import Activated, Block, Decoded, Thinking, activate, decode
from masc.backends.torch.segments import Opening, Past, Segment, look, start_of
from masc.compiler.artifact import ModelRecord, mark_trained, model_hash, write_artifact
from masc.compiler.pipeline import Compilation
from masc.compiler.plan import Answer, Loss, Plan, Prefill, Sampling, Think, agent_of
from masc.dsl.diagnostics import fail


@dataclass(frozen=True)
class Scored:
    """One output's teacher-forced answer. logits: [B, A, V], float32; labels: long [B, A], -100 where padded;
    logits[:, t] predicts labels[:, t]."""

    logits: Tensor
    labels: Tensor

    @property
    def losses(self) -> Tensor:
        """Cross entropy of each answer token, [B, A], 0 where padded."""
        flat = functional.cross_entropy(self.logits.flatten(0, 1), self.labels.flatten(), reduction="none")
        return flat.view(self.labels.shape)


@dataclass(frozen=True)
class Output:
    """What a forward pass gives. `outputs`: by output name; `logits` and `labels` are those of the first output.
    loss: the mean over all answer tokens, scalar. tokens: how many those are. positions: real positions run through."""

    outputs: Mapping[str, Scored]
    loss: Tensor
    tokens: int
    positions: int

    @property
    def logits(self) -> Tensor:
        return next(iter(self.outputs.values())).logits

    @property
    def labels(self) -> Tensor:
        return next(iter(self.outputs.values())).labels


@dataclass(frozen=True)
class Said:
    """One decoded answer. ids: its tokens, without the one that ended it; logprob over `scored` tokens (that one
    included)."""

    text: str
    ids: tuple[int, ...]
    logprob: float
    scored: int


class Program(nn.Module):
    """A plan that runs. Call it with rows (dicts: inputs and answer columns by name) for a differentiable loss.

    bases: one frozen model for each model of the plan, by name. seed: fresh adapters are drawn from it.
    """

    def __init__(self, plan: Plan, bases: Mapping[str, Base], seed: int = 0) -> None:
        super().__init__()
        self.plan = plan
        self.seed = seed
        self.compilation: Compilation | None = None  # where the plan came from, for `save`
        self.bases = nn.ModuleDict(dict(bases))
        self.links = nn.ParameterDict()
        for agent in plan.agents:
            if agent.lora is not None:
                self.base(agent.name).add_adapter(agent.name, agent.lora, seed)
        for operation in plan.operations:
            name = agent_of(operation.activation) if isinstance(operation, Think) else ""
            if isinstance(operation, Think) and operation.align == "linear" and name not in self.links:
                base = self.base(name)
                wide = torch.promote_types(base.ridge.dtype, torch.float32)
                self.links[name] = nn.Parameter(base.ridge.to(wide).clone())
        self._seen = {v.segment for op in plan.operations if isinstance(op, Prefill) for v in op.sees}
        self.eval()

    def base(self, agent: str) -> Base:
        """The base model of an agent."""
        base = self.bases[self.plan.agent(agent).model]
        assert isinstance(base, Base)
        return base

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    # -- parameters ------------------------------------------------------------------------------------------------

    def trainable(self) -> dict[str, nn.Parameter]:
        """Adapters and links by name, in a fixed order. Nothing else is ever trained or saved."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def owner(self, parameter: str) -> str:
        """The agent that a trainable parameter (by name) belongs to."""
        if parameter.startswith("links."):
            return parameter.removeprefix("links.")
        return parameter.removesuffix(".weight").rpartition(".")[2]

    def state_dict(  # type: ignore[override]
        self, *args: Any, trainable_only: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As of any module; `trainable_only`: the adapters and links alone."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        if not trainable_only:
            return state
        names = self.trainable()
        return {name: tensor for name, tensor in state.items() if name in names}

    # -- running ---------------------------------------------------------------------------------------------------

    def forward(self, rows: Sequence[Row], opening: Opening | None = None, recompute: bool = False) -> Output:
        """Teacher-forced pass over rows. Every loss column must be there (E0604).

        opening: where training stands in its `open` phases; None: the final channels. recompute: an agent's activations
        are computed again in the backward pass (`checkpoint = agent`).
        """
        if not rows:
            raise ValueError("a forward pass needs at least one row")
        columns = {op.output: op.column for op in self.plan.operations if isinstance(op, Loss)}
        walk = _Walk(self, rows, opening, recompute, columns)
        outputs: dict[str, Scored] = {}
        for activation, answer in walk.steps():
            activated = walk.activated[activation]
            base = self.base(agent_of(activation))
            hidden = torch.cat([activated.last, activated.label], 1)
            label = walk.labels[answer.output]
            target = label.ids.masked_fill(~label.real, -100)
            outputs[answer.output] = Scored(base.logits(hidden[:, : target.shape[1]]), target)
        total = torch.stack([scored.losses.sum() for scored in outputs.values()]).sum()
        tokens = sum(int((scored.labels != -100).sum()) for scored in outputs.values())
        return Output(outputs, total / tokens, tokens, walk.positions)

    def forward_tokens(self, rows: Sequence[Row]) -> int:
        """How many answer tokens the loss over these rows is a mean of."""
        losses = [op for op in self.plan.operations if isinstance(op, Loss)]
        answers = {op.output: agent_of(op.activation) for op in self.plan.operations if isinstance(op, Answer)}
        return sum(
            len(answer_ids(self.base(answers[loss.output]), value(row, loss.column, i)))
            for loss in losses
            for i, row in enumerate(rows)
        )

    @torch.no_grad()
    def say(self, rows: Sequence[Row], indices: Sequence[int] | None = None) -> list[dict[str, Said]]:
        """Decode every output for a batch of rows. indices: the rows' numbers in the whole data (for seeds and
        errors)."""
        walk = _Walk(self, rows, None, False, None, indices)
        said: list[dict[str, Said]] = [{} for _ in rows]
        for activation, answer in walk.steps():
            for i, item in enumerate(self._finish(walk, activation, answer)):
                said[i][answer.output] = item
        return said

    def _finish(self, walk: _Walk, activation: str, answer: Answer) -> list[Said]:
        *_, state = walk.decode(activation, answer)
        base = self.base(agent_of(activation))
        texts = [_cut(base.tokenizer.decode(s.ids, skip_special_tokens=True), answer.sampling) for s in state]
        return [Said(t, tuple(s.ids), s.logprob, s.scored) for t, s in zip(texts, state, strict=True)]

    @overload
    def generate(self, rows: Sequence[Row], stream: Literal[False] = False) -> list[Any]: ...
    @overload
    def generate(self, rows: Sequence[Row], stream: Literal[True]) -> Iterator[str]: ...
    def generate(self, rows: Sequence[Row], stream: bool = False) -> list[Any] | Iterator[str]:
        """The answers to rows, in one batch: a list of strings, or of dicts (output name -> string) where the graph has
        several outputs. stream: rows is one row, and pieces of the (last) output's text come as they are decoded."""
        if stream:
            if len(rows) != 1:
                raise ValueError("stream=True takes exactly one row")
            return self._stream(rows[0])
        said = self.say(rows)
        if len(self.plan.outputs) == 1:
            return [item[self.plan.outputs[0]].text for item in said]
        return [{name: s.text for name, s in item.items()} for item in said]

    @torch.no_grad()
    def _pieces(self, row: Row) -> Iterator[str]:
        walk = _Walk(self, [row], None, False, None)
        for activation, answer in walk.steps():
            if answer.output != self.plan.outputs[-1]:
                self._finish(walk, activation, answer)
                continue
            tokenizer = self.base(agent_of(activation)).tokenizer
            shown = ""
            for state in walk.decode(activation, answer):
                text = _cut(tokenizer.decode(state[0].ids, skip_special_tokens=True), answer.sampling)
                # Hold back half a character, and what may be the beginning of a stop string.
                safe = text if state[0].done else _without_partial(text.rstrip("\ufffd"), answer.sampling.stop)
                if safe.startswith(shown) and len(safe) > len(shown):
                    yield safe[len(shown) :]
                    shown = safe

    def _stream(self, row: Row) -> Iterator[str]:
        # A generator's frame must not leave gradients switched off for its caller between pieces.
        pieces = self._pieces(row)
        while True:
            with torch.no_grad():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    # -- files -----------------------------------------------------------------------------------------------------

    def model_records(self) -> tuple[ModelRecord, ...]:
        """What an artifact remembers of the base models."""
        folders = {name: base.folder for name, base in self.bases.items() if isinstance(base, Base)}
        return tuple(ModelRecord(m.name, m.target, hash=model_hash(folders[m.name])) for m in self.plan.models)

    def save(self, folder: Path | str) -> None:
        """Write an artifact (`relay.masc`) with the weights as they are. MascError (E0513) where that would
        overwrite weights that were trained for another graph."""
        if self.compilation is None:
            raise ValueError("only a program that was compiled from a file can be saved as an artifact")
        root = Path(folder)
        artifact = write_artifact(root, self.compilation, seed=self.seed)
        write_weights(self, root)
        mark_trained(artifact, self.model_records())

    def save_weights(self, folder: Path) -> None:
        """Write `adapters/<agent>/` (PEFT's format) and `channels.safetensors` (links) into a folder."""
        from safetensors.torch import save_file

        for agent in self.plan.agents:
            if agent.lora is not None:
                adapters.save(self.base(agent.name).model, agent.name, folder / "adapters" / agent.name)
        if len(self.links):
            links = {name: p.detach().cpu().contiguous() for name, p in self.links.items()}
            save_file(links, folder / "channels.safetensors")

    @torch.no_grad()
    def load_weights(self, folder: Path) -> None:
        """Read what `save_weights` wrote. E0617 where it does not fit."""
        from safetensors.torch import load_file

        for agent in self.plan.agents:
            if agent.lora is not None:
                adapters.load(self.base(agent.name).model, agent.name, folder / "adapters" / agent.name)
        if len(self.links):
            path = folder / "channels.safetensors"
            try:
                found = load_file(path)
                for name, parameter in self.links.items():
                    parameter.copy_(found[name])
            except Exception as error:
                raise fail("E0617", f"cannot read the links: {path}: {error}") from None


class _Walk:
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
            width = full.ids.shape[1] - (name not in self.program._seen)
            label = Block(full.ids[:, :width], full.real[:, :width])
        thinking = None if think is None else self._thinking(base, agent, think)
        start = start_of(prefill.at, self.segments, prompt.ids)
        past = look(prefill.sees, self.segments, self.opening, base.layers, base.rotate)
        self._check_room(base, agent, start, prompt, think, label)
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

    def _check_room(
        self, base: Base, agent: str, start: Tensor, prompt: Block, think: Think | None, label: Block | None
    ) -> None:
        """Nothing is cut off silently: past the model's last position is an error (E0606)."""
        limits = [n for n in (base.max_positions, self.program.plan.train.max_length) if n]
        if not limits:
            return
        end = start + prompt.real.sum(1) + (0 if think is None else think.steps)
        if label is not None:
            end = end + label.real.sum(1)
        worst = int(end.argmax())
        if int(end[worst]) > min(limits):
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
        read_end = activation in program._seen
        past = self.pasts[activation]
        for state, segment in decode(base, adapter, activated, past, answer.sampling, seeds, limits, read_end):
            for sample in state if answer.sampling.stop else []:
                text = base.tokenizer.decode(sample.ids, skip_special_tokens=True)
                sample.done = sample.done or any(stop in text for stop in answer.sampling.stop)
            self.segments[activation] = segment
            yield state


def write_weights(program: Program, root: Path) -> None:
    """Write adapters and links into an artifact: to a temporary folder first, then each into its place."""
    temporary = root / f".tmp-weights-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    program.save_weights(temporary)
    shutil.rmtree(root / "adapters", ignore_errors=True)
    for item in temporary.iterdir():
        item.rename(root / item.name)
    temporary.rmdir()


def _cut(text: str, sampling: Sampling) -> str:
    """The text up to the first stop string."""
    ends = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def _without_partial(text: str, stops: Sequence[str]) -> str:
    """The text less a tail that is the beginning of a stop string."""
    for size in range(max((len(s) for s in stops), default=1) - 1, 0, -1):
        if any(s.startswith(text[-size:]) for s in stops if len(s) > size and len(text) >= size):
            return text[:-size]
    return text
