"""Files as an editor holds them, and the place in one where the cursor is: at `‸`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from masc.compiler.pipeline import Compilation
from masc.lsp.check import compiled
from masc.lsp.index import Index, build
from masc.lsp.texts import load, real

ROLES = """\
mas 1
model small = "no-one/not-on-disk"
param depth: int = 3
agent expert(field: text) on small {
  user "You know {field}. {question}"
  think depth
}
agent critic on small {
  system "You doubt 🙂 {tutor}"
  user "{question}"
  think depth (align = ridge)
}
"""
MAIN = """\
mas 1
import "roles.mas" (expert, critic, depth)
model small = "no-one/not-on-disk"

agent tutor on small {
  user "🙂🙂 {question}"
  answer (max_tokens = 8)
}
agent solver on small {
  user "{question}" think 2
  answer
}
graph relay(question) -> answer {
  maths = expert("mathematics")
  maths -> solver : kv(carry = own, open = 20 as trace)
  tutor -> critic : text
  repeat 2 {
    critic -> solver : kv
    solver -> critic : kv(carry = latents)
  }
  solver -> answer
}
train {
  answer <- solution
  batch 4
}
"""


@dataclass(frozen=True)
class Desk:
    """`path`, `offset`: where the cursor is."""

    index: Index
    texts: dict[str, str]
    path: str
    offset: int

    def compile(self, path: str) -> Compilation:
        return compiled(path, self.texts[path], self.texts)

    def named(self, name: str) -> str:
        return next(path for path in self.texts if path.endswith(name))


def desk(folder: Path, main: str = MAIN, **others: str) -> Desk:
    """Files by name (`roles` is `roles.mas`, `main` is `relay.mas`), open and not saved; one of them may have a `‸`."""
    named = {"relay.mas": main, **{f"{name}.mas": text for name, text in ({"roles": ROLES} | others).items()}}
    texts = {real(folder / name): text for name, text in named.items()}
    path = next((path for path, text in texts.items() if "‸" in text), real(folder / "relay.mas"))
    offset = texts[path].find("‸")
    texts = {each: text.replace("‸", "") for each, text in texts.items()}
    return Desk(build(load([], texts)), texts, path, max(offset, 0))


def cursor(text: str, before: str, count: int = 1) -> str:
    """The text with the cursor before the n-th place of some words."""
    at = -1
    for _ in range(count):
        at = text.index(before, at + 1)
    return f"{text[:at]}‸{text[at:]}"
