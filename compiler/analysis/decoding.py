"""How answers are decoded when a graph is run: as its `answer` lines say, or as whoever runs it wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from masc.compiler.ir.plan import Answer, Plan, Sampling
from masc.compiler.language.agents import DECODING
from masc.dsl.diagnostics import did_you_mean

Engine = Literal["fast", "exact"]
"""What runs a plan without training it: as fast as can be, or as training computes it. Both say the same, but for
rounding."""


@dataclass(frozen=True)
class Decoding:
    """What replaces the decoding of a graph's outputs; None: as its `answer` line says. What agents tell each other in
    text is decoded as the graph says in any case. Errors: ValueError where a number is out of range."""

    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    """Texts that end an answer, and are cut off; none of them is empty."""

    def __post_init__(self) -> None:
        if self.stop is not None:
            object.__setattr__(self, "stop", _stops(self.stop))
        for name, limits in DECODING.items():
            value = getattr(self, name)
            if value is not None and (wrong := limits.complaint(name, value)) is not None:
                raise ValueError(wrong)
            object.__setattr__(self, name, limits.plain(value))

    def of(self, answer: Answer) -> Answer:
        """An answer as it is decoded now."""
        said = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        return replace(answer, sampling=replace(answer.sampling, **said)) if said and answer.output else answer


def _stops(given: object) -> tuple[str, ...]:
    """Stop strings, each once: of one text, or of several."""
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("`stop` takes texts that are not empty")
    return tuple(dict.fromkeys(texts))


AS_WRITTEN = Decoding()


def decoding_of(options: Mapping[str, Any]) -> Decoding:
    """The decoding of options by name. TypeError for a name that is none, ValueError as of `Decoding`."""
    known = [field.name for field in fields(Decoding)]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"there is no option `{name}`: {hint or 'they are ' + ', '.join(known)}")
    return Decoding(**options)


def decodings(plan: Plan, decoding: Decoding = AS_WRITTEN) -> dict[str, Sampling]:
    """How each agent that says something decodes, by agent; an output by its own name."""
    found: dict[str, Sampling] = {}
    for turn in plan.answering:
        assert turn.answer is not None
        found.setdefault(turn.answer.output or turn.agent, decoding.of(turn.answer).sampling)
    return found


def decodings_json(plan: Plan, decoding: Decoding = AS_WRITTEN) -> dict[str, dict[str, Any]]:
    """The same for JSON."""
    return {name: {**asdict(one), "stop": list(one.stop)} for name, one in decodings(plan, decoding).items()}


def sampling_text(sampling: Sampling) -> str:
    """`at most 128 tokens, greedy`, or `at most 2048 tokens, temperature 0.6, top-p 0.95, seed 0`."""
    words = [f"at most {sampling.max_tokens} tokens"]
    if sampling.temperature:
        words += [f"temperature {sampling.temperature:g}", f"top-p {sampling.top_p:g}", f"seed {sampling.seed}"]
    else:
        words.append("greedy")
    if sampling.stop:
        words.append(f"stop at {', '.join(map(repr, sampling.stop))}")
    return ", ".join(words)


def words_of(known: Mapping[str, Any]) -> str:
    """The same of what `decodings_json` gives for one agent."""
    return sampling_text(Sampling(**{**known, "stop": tuple(known["stop"])}))


def samples_anything(plan: Plan, decoding: Decoding = AS_WRITTEN) -> bool:
    """Whether two runs with other seeds may say something else."""
    return any(sampling.temperature > 0 for sampling in decodings(plan, decoding).values())
