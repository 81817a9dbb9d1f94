"""Teams for measuring: graphs of agents whose prompts have so many positions, and rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from random_models import FRAME, words

import masc
from masc.compiler.analysis.decoding import Decoding

ADAPT = "adapt lora(rank = 16, alpha = 32)"


def agent(name: str, positions: int, latents: int, *, answer: int = 0, adapt: str = ADAPT) -> str:
    """An agent whose prompt has so many positions, eight of them the row's. answer: tokens that it says; 0: none."""
    own = positions - FRAME - 8
    if own < 2:
        raise ValueError(f"a prompt has at least {FRAME + 10} positions")
    think = f"think {latents}" if latents else ""
    said = f"answer (max_tokens = {answer})" if answer else ""
    system, user = words(own // 2, len(name)), words(own - own // 2, len(name) + 1)
    return f'agent {name} on m {{\n  system "{system}"\n  user "{{q}} {user}"\n  {think}\n  {adapt}\n  {said}\n}}\n'


def team(model: Path, agents: Sequence[str], edges: str) -> str:
    """A graph over agents, one model and one input."""
    head = f'mas 1\nmodel m = "{model}"\n'
    return head + "".join(agents) + f"graph team(q) -> answer {{\n{edges}\n}}\n"


def chain(model: Path, count: int, positions: int, latents: int, *, answer: int = 16, adapt: str = ADAPT) -> str:
    """Agents one behind the other, each of which sees all before it; the last one answers and takes no latent steps."""
    names = [f"a{i}" for i in range(count)]
    made = [agent(name, positions, latents, adapt=adapt) for name in names[:-1]]
    made.append(agent(names[-1], positions, 0, answer=answer, adapt=adapt))
    path = " -> ".join(names)
    return team(model, made, f"  {path} : kv" if count > 1 else f"  {path}")


def talking(model: Path, count: int, positions: int, tokens: int) -> str:
    """The same team in words: each reads what all before it said, and says so many tokens."""
    names = [f"a{i}" for i in range(count)]
    made = [agent(name, positions, 0, answer=tokens) for name in names]
    edges = [f"  {a} -> {b} : text" for i, b in enumerate(names) for a in names[:i]]
    return team(model, made, "\n".join(edges))


def panel(model: Path, siblings: int, positions: int, latents: int, *, aside: bool) -> str:
    """Siblings before a judge: side by side, or one behind the other."""
    names = [f"s{i}" for i in range(siblings)]
    made = [agent(name, positions, latents) for name in names] + [agent("judge", 20, 0, answer=1)]
    if aside:
        return team(model, made, f"  [{', '.join(names)}] -> judge : kv(carry = own)")
    return team(model, made, f"  {' -> '.join(names)} -> judge : kv")


def rows(count: int, answer: int = 16) -> list[dict[str, Any]]:
    """Rows of equal lengths and different words; an answer has so many tokens (its end not counted)."""
    return [{"q": words(8, 7 + i), "answer": words(answer, 3 + i)} for i in range(count)]


def program(folder: Path, text: str, *, dtype: str = "bfloat16", device: str = "cpu", **options: Any) -> Any:
    """A compiled team whose adapters do something."""
    file = folder / "team.mas"
    file.write_text(text, encoding="utf-8")
    made = masc.compile(file, dtype=dtype, device=device, **options)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.trainable().items():
        if ".lora_B." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return made


def seen(made: Any, row: dict[str, Any]) -> int:
    """Positions of a row, of all agents together, before the first answer token is decoded."""
    trace = made.trace([row], decoding=Decoding(max_tokens=1))
    return sum(len(turn.ids[0]) + turn.latent for turn in trace.turns.values())
