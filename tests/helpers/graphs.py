"""Graphs that several tests run: one for each channel option, and mixtures."""

from __future__ import annotations

from support import chain

FAN = """
mas 1
model m = MODEL
agent first on m {{ user "{{q}} first" think 2 (align = ridge) adapt lora(rank = 4) }}
agent second on m {{ user "second: {{q}}, please" think 3 adapt lora(rank = 4) }}
agent third on m {{ user "third" think 1 (align = linear) adapt lora(rank = 4) }}
agent last on m {{ user "{{q}} now" think {think} adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(q) -> answer {{ [{order}] -> last : kv({options}) }}
"""


def fan(options: str, order: str = "first, second, third", think: int = 0) -> str:
    return FAN.format(options=options, order=order, think=think)


GRAPHS = {
    "trace": chain(("a", 2, "ridge"), ("b", 3, "norm"), ("c", 0, "norm")),
    "no latents": chain(("a", 0, "norm"), ("b", 0, "norm"), ("c", 0, "norm")),
    "own": chain(("a", 2, "linear"), ("b", 1, "norm"), ("c", 2, "ridge"), edge="kv(carry = own)"),
    "latents": chain(("a", 2, "norm"), ("b", 3, "norm"), ("c", 1, "norm"), edge="kv(carry = latents)"),
    "layers": chain(("a", 2, "norm"), ("b", 0, "norm"), ("c", 0, "norm"), edge="kv(layers = 0..1)"),
    "layers of latents": chain(("a", 2, "norm"), ("c", 0, "norm"), edge="kv(carry = latents, layers = 1..1)"),
    "stop": chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(gradient = stop)"),
    "overlap": fan("carry = own"),
    "stack": fan("carry = own, merge = stack"),
    "stacked latents": fan("carry = latents, merge = stack", think=2),
    "an answer in the middle": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "{q} and b" adapt lora(rank = 4) answer (max_tokens = 5) }
graph g(q) -> first, answer { a -> first  a -> b : kv  b -> answer }
train { first <- q }
""",
}
