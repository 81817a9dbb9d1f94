"""Weights that were trained when plans had another form are known by how their plan was printed then."""

from __future__ import annotations

import pytest

from masc.compiler.forms.earlier import earlier_fingerprint
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source

CHANNELS = """mas 1
model m = "no-one/m"
model n = "no-one/n"
agent a on m { system "You {q}" user "{q}" think 2 (align = linear) adapt lora(rank = 4, targets = [q_proj, v_proj]) }
agent b on m { user "{q} b" think 1 answer (temperature = 0.5, stop = ["x"]) }
agent c on n { user "{b} {q}" adapt none }
agent d on m { user "{c} {q}" answer }
graph g(q) -> answer {
  a -> b : kv(carry = latents, open = 10, layers = 0..1)
  b -> c : text
  a -> c : fuse(width = 4, layers = 1..2)
  c -> d : hidden(carry = own, link = mlp)
  [a, b] -> d : kv(merge = stack, gradient = stop)
  d -> answer
}
train { answer <- gold  b <- hint  dtype bfloat16 }
"""
ROUNDS = """mas 1
model m = "no-one/m"
agent a on m { user "{q} a" think 2 }
agent b on m { user "{q} b" think 1 }
agent c on m { user "{q} c" }
agent d on m { user "{q} d" answer (max_tokens = 9) }
graph g(q) -> answer { a -> c : kv  repeat 2 { c -> b : kv  b -> c : kv(layers = 0..3) }  c -> d : kv }
"""
KNOWN = [
    (
        CHANNELS,
        "e2002b45a901c41b14af4f1746e10feea5ee009940cfc3d9dd08905fdd2ac7f7",
        "856bd1e69ca5a524f2794f78e8adb328cf8b6dc2886909fc591887bf1114490a",
    ),
    (
        ROUNDS,
        "1865c3ca3fc7e71ac3240108b4663389bf64bf66b155fbcdeedbe47a0ae08e36",
        "f1aba5ba6387ad572f664d9770c01c2edc2cdc30313027105e8e564aa9ca6820",
    ),
]
"""A graph, and the fingerprints of its plan as version 0.1.0 with plans of format 2 computed them."""


@pytest.mark.parametrize(("text", "plain", "decoding"), KNOWN, ids=["channels", "rounds"])
def test_a_plan_of_operations_is_known_again(text: str, plain: str, decoding: str) -> None:
    plan = compile_source(Source("x.mas", text)).require()
    assert (earlier_fingerprint(plan), earlier_fingerprint(plan, decoding=True)) == (plain, decoding)


def test_no_more_is_listed_than_could_be_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain is not worked out segment by segment to learn that it is none of the earlier ones."""
    plan = compile_source(Source("x.mas", ROUNDS)).require()
    monkeypatch.setattr("masc.compiler.forms.earlier.VIEWS", 5)
    assert earlier_fingerprint(plan) is None
