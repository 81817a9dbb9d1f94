"""The model class that lm-evaluation-harness finds under the name `masc`.

A request's context is the graph's input, its continuation an answer of the team: agents apply their own prompts and
chat templates. Importing this needs the package `lm_eval`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from masc.backends.torch.data.check import answer_columns, check_output, columns_of
from masc.backends.torch.engine.measuring import batches
from masc.backends.torch.evaluation.evaluate import say_all
from masc.compiler.analysis.decoding import Decoding
from masc.compiler.ir.plan import Answer
from masc.dsl.diagnostics import did_you_mean, fail
from masc.terminal.console import bar

if TYPE_CHECKING:
    from masc.backends.torch.program import Program

_BATCH = 16
_MOST_TOKENS = 256
"""Of an answer where the task does not say: the harness's own default."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_MEANT = ("until", *_LENGTHS, "do_sample", "temperature", "top_p", "seed")
_SAMPLES = ("top_k", "min_p", "typical_p")
"""What changes nothing where nothing is sampled."""
_IDLE = {"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1, "use_cache": True}
"""Values with which an option changes nothing."""


@dataclass(frozen=True)
class Until(Decoding):
    """Decoding that a task asks for. stop: strings that end an answer and are no part of it, beside those of the
    graph's `answer` line."""

    stop: tuple[str, ...] = ()

    def of(self, answer: Answer) -> Answer:
        found = super().of(answer)
        if answer.output is None:
            return answer
        return replace(found, sampling=replace(found.sampling, stop=(*answer.sampling.stop, *self.stop)))


@register_model("masc")
class MascLM(LM):  # type: ignore[misc]  # lm_eval has no types
    """A team. Errors are MascError: those of `masc.load`, E0632 a graph that a task cannot ask, E0633 a request that a
    team cannot answer, E0606 one that is too long."""

    def __init__(
        self,
        artifact: str | Path | None = None,
        channel: str = "graph",
        output: str | None = None,
        checkpoint: str | int | None = None,
        weights: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        engine: str = "fast",
        batch_size: int | str | None = None,
        program: Program | None = None,
        **unknown: Any,
    ) -> None:
        """artifact: a `.masc` folder or a file that has one. channel: `graph`, or `text` as a baseline. output: the
        one that answers (None: the first). engine: what decodes. batch_size: requests that run together (`auto`: 16).
        program: one that is loaded already, instead."""
        super().__init__()
        unknown.pop("max_batch_size", None)
        for name in unknown:
            known = ["artifact", "channel", "output", "checkpoint", "weights", "dtype", "device", "engine"]
            hint = did_you_mean(name, known) or f"they are {', '.join(known)}"
            raise fail("E0632", f"the model `masc` has no argument `{name}`", hint=hint)
        if channel not in ("graph", "text"):
            raise fail("E0632", f"channel = {channel} is neither `graph` nor `text`")
        if engine not in ("fast", "exact"):
            raise fail("E0632", f"engine = {engine} is neither `fast` nor `exact`")
        self.engine: Any = engine
        self.program = program or _opened(artifact, channel, checkpoint, weights, dtype, device)
        plan = self.program.plan
        self.input = _input_of(self.program)
        if output is not None:
            check_output(plan, output)
        self.output = output or plan.outputs[0]
        asked = str(batch_size or "")
        self.batch_size = max(1, int(asked)) if asked.isdecimal() else _BATCH
        self._device = self.program.device

    @property
    def tokenizer_name(self) -> str:
        """What the harness calls its cache of requests by."""
        return "masc"

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The question of a conversation of one message: the agents' own chat templates are applied to it. E0633 for
        more, which would have to be forgotten."""
        if len(chat_history) != 1 or chat_history[0].get("role") != "user":
            hint = "leave --apply_chat_template away: agents apply their chat templates themselves"
            raise fail("E0633", "a team is asked one question, not told a conversation", hint=hint)
        return str(chat_history[0]["content"])

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""

    # -- requests ------------------------------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers to contexts, up to the first string of `until`. Requests that are decoded alike run together."""
        alike: dict[Until, list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault(decoding_of(request.args[1]), []).append(i)
        answers = [""] * len(requests)
        for decoding, chosen in alike.items():
            rows = [self._row(requests[i].args[0]) for i in chosen]
            said_by_row = say_all(self.program, rows, self.batch_size, decoding=decoding, engine=self.engine)
            for at, said in self._told(said_by_row, len(rows)):
                answers[chosen[at]] = _up_to(said[self.output].text, decoding.stop)
                self.cache_hook.add_partial("generate_until", requests[chosen[at]].args, answers[chosen[at]])
        return answers

    @torch.no_grad()
    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each context and continuation: the log-likelihood of the continuation (nats, summed over its tokens,
        without the end of turn) as the team's answer, and whether it is what greedy decoding begins with. A
        continuation begins a turn: spaces before it are left out."""
        if len(self.program.plan.outputs) > 1:
            raise fail("E0633", "the likelihood of an answer can be told of graphs with one output alone")
        column = answer_columns(self.program.plan)[self.output][1]
        rows = [self._row(context) | {column: text.lstrip()} for context, text in (r.args for r in requests)]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        was = self.program.training
        self.program.eval()
        try:
            for batch, scored in self._told(self._scored(rows), len(rows), many=True):
                for i, likely in zip(batch, scored, strict=True):
                    found[i] = likely
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, likely)
        finally:
            self.program.train(was)
        return found

    def _scored(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[list[int], list[tuple[float, bool]]]]:
        for batch in batches(self.program, rows, range(len(rows)), self.batch_size):
            scored = self.program([rows[i] for i in batch], indices=batch, texts=False).outputs[self.output]
            real = scored.labels != -100
            real &= real.cumsum(1) < real.sum(1, keepdim=True)  # all but the end of turn
            likely = -(scored.losses * real).sum(1)
            greedy = ((scored.logits.argmax(-1) == scored.labels) | ~real).all(1)
            yield batch, list(zip(likely.tolist(), greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """E0633: a team answers questions; a text alone asks nothing."""
        hint = "this task asks for `loglikelihood_rolling`; take one of the other kinds"
        raise fail("E0633", "a team has no likelihood of a text without a question", hint=hint)

    def _row(self, context: str) -> dict[str, Any]:
        return {self.input: context}

    def _told(self, items: Iterator[Any], total: int, many: bool = False) -> Iterator[Any]:
        with bar() as progress:
            task = progress.add_task("requests", total=total)
            for item in items:
                yield item
                progress.advance(task, len(item[0]) if many else 1)


def _up_to(text: str, stops: Sequence[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def _opened(
    artifact: str | Path | None,
    channel: str,
    checkpoint: str | int | None,
    weights: str | None,
    dtype: str | None,
    device: str | None,
) -> Program:
    from masc.session.programs import find, load_program

    if artifact is None:
        hint = "lm_eval run --model masc --model_args artifact=relay.masc"
        raise fail("E0632", "the model `masc` needs the argument `artifact`", hint=hint)
    step = None if checkpoint is None else str(checkpoint)
    mode: Any = channel
    found = find(Path(artifact), (), mode, {}, step, None if weights is None else Path(weights))
    return load_program(found, dtype=dtype, device=device)


def _input_of(program: Program) -> str:
    """The input that a context is: the one that the graph's prompts use. E0632."""
    used = columns_of(program.plan, labels=False)
    if len(used) != 1:
        shown = " and ".join(f"`{each}`" for each in used) or "no input"
        raise fail("E0632", f"the graph reads {shown}, and a task of lm-evaluation-harness gives one text")
    return used[0]


def decoding_of(wanted: Mapping[str, Any]) -> Until:
    """The decoding that a task's `generation_kwargs` ask for: greedy, but with `do_sample`. E0633 for what masc cannot
    do, for it would change what is measured."""
    given = {name: value for name, value in wanted.items() if value is not None}
    temperature = float(given.get("temperature", 1.0)) if given.get("do_sample") else 0.0
    for name, value in given.items():
        idle = _IDLE.get(name) == value or (name in _SAMPLES and temperature == 0)
        if name not in _MEANT and not idle:
            hint = f"it takes {', '.join(_MEANT)}"
            raise fail("E0633", f"masc does not decode with `{name} = {value}`, as the task wants it", hint=hint)
    until = given.get("until", ())
    stop = (until,) if isinstance(until, str) else tuple(until)
    most = next((given[name] for name in _LENGTHS if name in given), _MOST_TOKENS)
    top_p = given.get("top_p") if temperature else None
    try:
        return Until(temperature, top_p, int(most), given.get("seed"), tuple(filter(None, stop)))
    except (TypeError, ValueError) as error:
        raise fail("E0633", f"the task's `generation_kwargs` are out of range: {error}") from None
