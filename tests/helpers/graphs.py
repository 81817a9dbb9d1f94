"""Graphs that several tests run: one for each channel option, and mixtures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from support import chain, make_program

FAN = """
mas 1
model m = MODEL
agent first on m {{ user "{{q}} first" think 2 (align = ridge) adapt lora(rank = 4) }}
agent second on m {{ user "second: {{q}}, please" think 3 adapt lora(rank = 4) }}
agent third on m {{ user "third" think 1 (align = linear) adapt lora(rank = 4) }}
agent last on m {{ user "{{q}} now" think {think} adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(q) -> answer {{ [{order}] -> last : kv({options}) }}
"""


ALIKE = """
mas 1
model m = MODEL
agent source on m {{ user "{{q}}?" think 2 adapt lora(rank = 4) }}
agent first on m {{ user "{{q}} first" {first} adapt lora(rank = 4) }}
agent second on m {{ user "and {{q}} then" {second} adapt {adapter} }}
agent third on m {{ user "{{q}}, third" {third} adapt lora(rank = 4) }}
agent last on m {{ user "{{q}} now" think 1 adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(q) -> answer {{ {edges} }}
"""


def alike(edges: str, adapter: str = "lora(rank = 4, alpha = 2)", **thinks: str) -> str:
    """Three agents that can be computed in one batch, if nothing else is said of one."""
    said = dict.fromkeys(("first", "second", "third"), "think 2 (align = ridge)") | thinks
    text = ALIKE.format(edges=edges, adapter=adapter, **said)
    return text if "source ->" in edges else "\n".join(line for line in text.splitlines() if "agent source" not in line)


def fan(options: str, order: str = "first, second, third", think: int = 0) -> str:
    return FAN.format(options=options, order=order, think=think)


PAIR = """
mas 1
model m = MODEL
model n = OTHER
agent a on m {{ user "{{q}} first" think {think} adapt lora(rank = 4) {answer} }}
agent b on {on} {{ user "{prompt}" adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(q) -> answer {{ a -> b : {edge}  {more} }}
train {{ {train} }}
"""


def pair(
    edge: str, prompt: str, think: int = 0, on: str = "n", answer: str = "", more: str = "", train: str = ""
) -> str:
    """Two agents, the second one on another model if nothing else is said."""
    return PAIR.format(edge=edge, prompt=prompt, think=think, on=on, answer=answer, more=more, train=train)


GRAPHS = {
    "trace": chain(("a", 2, "ridge"), ("b", 3, "norm"), ("c", 0, "norm")),
    "no latents": chain(("a", 0, "norm"), ("b", 0, "norm"), ("c", 0, "norm")),
    "own": chain(("a", 2, "linear"), ("b", 1, "norm"), ("c", 2, "ridge"), edge="kv(carry = own)"),
    "latents": chain(("a", 2, "norm"), ("b", 3, "norm"), ("c", 1, "norm"), edge="kv(carry = latents)"),
    "layers": chain(("a", 2, "norm"), ("b", 0, "norm"), ("c", 0, "norm"), edge="kv(layers = 0..1)"),
    "soft latents": chain(("a", 2, "soft"), ("b", 3, "soft"), ("c", 0, "norm"), edge="kv(carry = latents)"),
    "latents, stopped": chain(
        ("a", 2, "soft, gradient = stop"),
        ("b", 3, "linear, gradient = stop"),
        ("c", 0, "norm"),
        edge="kv(carry = latents)",
    ),
    "trace, stopped latents": chain(("a", 2, "soft, gradient = stop"), ("b", 1, "norm"), ("c", 0, "norm")),
    "stopped latents, hidden": chain(("a", 2, "norm, gradient = stop"), ("b", 0, "norm"), edge="hidden"),
    "layers of latents": chain(("a", 2, "norm"), ("c", 0, "norm"), edge="kv(carry = latents, layers = 1..1)"),
    "stop": chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(gradient = stop)"),
    "overlap": fan("carry = own"),
    "alike": alike("source -> [first, second, third] : kv [first, second, third] -> last : kv(merge = stack)"),
    "stack": fan("carry = own, merge = stack"),
    "stacked latents": fan("carry = latents, merge = stack", think=2),
    "hidden": chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="hidden"),
    "hidden, of the prompt too": chain(("a", 2, "norm"), ("b", 0, "norm"), edge="hidden(carry = own, link = mlp)"),
    "hidden, without latents": chain(("a", 0, "norm"), ("b", 2, "norm"), edge="hidden(carry = own)"),
    "hidden, stopped": chain(("a", 2, "norm"), ("b", 0, "norm"), edge="hidden(link = mlp, gradient = stop)"),
    "hidden between two models": pair("hidden(link = mlp)", "{q} then {a}, ok?", think=2),
    "hidden of the prompt between two models": pair("hidden(carry = own)", "{a}{q}", think=1),
    "fuse": pair("fuse(width = 8)", "Again: {q}", on="m"),
    "fuse between two models": pair("fuse(layers = 2..3, width = 8)", "Again: {q}"),
    "fuse, stopped": pair("fuse(width = 8, gradient = stop)", "{q}{q}", think=2),
    "fuse beside keys and values": pair("fuse(width = 8)", "{q}?", more="a -> b : kv", on="m", think=1),
    "fuse of what was fused": """
mas 1
model m = MODEL
model n = OTHER
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) }
agent b on n { user "b {q}." adapt lora(rank = 4) }
agent c on m { user "c: {q}, {q}!" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
graph g(q) -> answer { a -> b : fuse(width = 4)  [a, b] -> c : fuse(width = 4) }
""",
    "text": pair("text", "{q} and {a}", answer="answer (max_tokens = 5)"),
    "text, supervised": pair("text", "{q}", answer="answer (max_tokens = 5)", train="a <- q"),
    "text beside keys and values": pair(
        "text", "{q} and {a}", more="a -> b : kv  a -> b : hidden", on="m", think=1, answer="answer (max_tokens = 5)"
    ),
    "rounds": """
mas 1
model m = MODEL
agent t on m { user "teacher {q}" think 1 adapt lora(rank = 4) }
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "b {q}" think 2 adapt lora(rank = 4) }
graph g(q) -> answer { t -> a : kv(carry = own)  repeat 2 { a -> b : kv  b -> a : kv(carry = latents) } }
""",
    "nested rounds of many kinds": """
mas 1
model m = MODEL
model n = OTHER
agent a on m { user "a {q} {c}" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "b {q}" think 2 adapt lora(rank = 4) }
agent c on n { user "c {q}" think 1 adapt lora(rank = 4) }
graph g(q) -> answer {
  repeat 2 { repeat 2 { a -> b : kv(carry = own)  b -> a : kv }  b -> c : fuse(width = 4)  c -> a : hidden }
}
""",
    "a shared adapter": """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) }
agent b on m { user "b {q}" adapt as a }
agent c on m { user "c {q}" think 1 (align = linear) adapt as d }
agent d on m { user "d {q}" adapt lora(rank = 4, dora = true) answer (max_tokens = 5) }
graph g(q) -> answer { a -> b : kv  b -> c : kv(layers = 0..1)  [a, c] -> d : kv }
""",
    "rounds with a shared adapter": """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "b {q}" adapt as a }
graph g(q) -> answer { repeat 2 { a -> b : kv(carry = own)  b -> a : kv } }
""",
    "gates": chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(gate = learned)"),
    "gates of latents": chain(
        ("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(carry = latents, gate = learned)"
    ),
    "gates of stopped edges": chain(
        ("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(gate = learned, gradient = stop)"
    ),
    "gates of siblings": fan("carry = own, merge = stack, gate = learned", think=1),
    "gates by two paths": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 2 adapt lora(rank = 4) }
agent b on m { user "{q} b" think 1 adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer (max_tokens = 5) }
graph g(q) -> answer {
  a -> b : kv(gate = learned)  b -> c : kv(layers = 0..1)  a -> c : kv(carry = latents, layers = 1..1, gate = learned)
}
""",
    "gates in rounds": """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "b {q}" think 2 adapt lora(rank = 4) }
graph g(q) -> answer { repeat 2 { a -> b : kv(carry = own, gate = learned)  b -> a : kv(gate = learned) } }
""",
    "gates of hidden states": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 2 adapt lora(rank = 4) }
agent b on m { user "b {a}{q}" think 1 adapt lora(rank = 4) }
agent c on m { user "{q} c {b}" adapt lora(rank = 4) answer (max_tokens = 5) }
graph g(q) -> answer {
  a -> b : hidden(gate = learned, carry = own)  b -> c : hidden(carry = own, gate = learned, link = mlp)
  b -> c : kv(gate = learned)
}
""",
    "gates of fused caches": pair("fuse(width = 8, gate = learned)", "Again: {q}"),
    "gates beside a fused cache": pair(
        "fuse(width = 8, layers = 0..1, gate = learned)",
        "{q} {a}?",
        more="a -> b : kv(gate = learned)  a -> b : hidden(gate = learned)",
        on="m",
        think=1,
    ),
    "an answer in the middle": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) answer (max_tokens = 5) }
agent b on m { user "{q} and b" adapt lora(rank = 4) answer (max_tokens = 5) }
graph g(q) -> first, answer { a -> first  a -> b : kv  b -> answer }
train { first <- q }
""",
}


@cache
def graph_program(name: str, folder: Path) -> Any:
    """A program of one of them that tests share: none may change it, or leave gradients behind."""
    return make_program(GRAPHS[name], folder)
