"""How answers are decoded when a graph is run: as its `answer` lines say, or as whoever runs it wants them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from masc.compiler.plan import Answer, Plan, Sampling, agent_of


@dataclass(frozen=True)
class Decoding:
    """What replaces the decoding of a graph's outputs; None: as its `answer` line says. What agents tell each other in
    text is decoded as the graph says in any case. Errors: ValueError where a number is out of range."""

    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "temperature": (0 <= (self.temperature or 0) < math.inf, "at least 0"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            "max_tokens": (self.max_tokens is None or self.max_tokens >= 1, "at least 1"),
            "seed": (0 <= (self.seed or 0) < 2**63, "at least 0 and below 2^63"),
        }
        for name, (right, limit) in checks.items():
            if not right:
                raise ValueError(f"{name} = {getattr(self, name)} must be {limit}")

    def of(self, answer: Answer) -> Answer:
        """An answer as it is decoded now."""
        said = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        return replace(answer, sampling=replace(answer.sampling, **said)) if said and answer.output else answer


AS_WRITTEN = Decoding()


def decodings(plan: Plan, decoding: Decoding = AS_WRITTEN) -> dict[str, Sampling]:
    """How each agent that says something decodes, by agent; an output by its own name."""
    found: dict[str, Sampling] = {}
    for operation in plan.operations:
        if isinstance(operation, Answer):
            name = operation.output or agent_of(operation.activation)
            found.setdefault(name, decoding.of(operation).sampling)
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


def samples_anything(plan: Plan, decoding: Decoding = AS_WRITTEN) -> bool:
    """Whether two runs with other seeds may say something else."""
    return any(sampling.temperature > 0 for sampling in decodings(plan, decoding).values())
