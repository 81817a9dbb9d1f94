"""A small graph with its data, and what calling the command gives: what the tests of the command share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GRAPH = """mas 1

model small = "./tiny"
param latents: int = 2

agent sender on small {
  user "{code}"
  think latents
  adapt lora(rank = 4)
}

agent receiver on small {
  user "Code?"
  adapt lora(rank = 4)
  answer (max_tokens = 4)
}

graph courier(code) -> answer {
  sender -> receiver : kv(carry = latents, open = 4)
}

train {
  data "train.jsonl"
  eval_data "test.jsonl"
  answer <- word
  batch 2
  steps 6
  save_every 2
}
"""

ROWS = [{"code": f"{i}{i}", "word": "ab"[i % 2] * 2} for i in range(8)]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]
