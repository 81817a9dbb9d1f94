"""The text channel: who speaks, and how."""

from __future__ import annotations

from masc.compiler.analysis.decoding import decodings
from masc.compiler.ir.plan import Sampling
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
from teams import said, source


def text_of(**lines: str) -> str:
    """a -> b -> c, of which c answers; `lines`: an `answer` line by agent."""
    text = source("a/2 b c", "a -> b -> c : kv", "c -> answer").text
    for name, line in ({"c": "answer"} | lines).items():
        text = text.replace(f"agent {name} on m {{\n", f"agent {name} on m {{\n  {line}\n")
    return text


def spoken(text: str) -> dict[str, Sampling]:
    return decodings(compile_source(Source("x.mas", text), channel="text").require())


def test_who_has_no_line_speaks_as_the_one_that_answers() -> None:
    assert spoken(text_of()) == {"a": Sampling(), "b": Sampling(), "answer": Sampling()}
    line = 'answer (max_tokens = 2048, temperature = 0.6, top_p = 0.95, seed = 7, stop = "x")'
    found = spoken(text_of(c=line))
    assert found["answer"] == Sampling(2048, 0.6, 0.95, 7, ("x",))
    assert found["a"] == found["b"] == Sampling(2048, 0.6, 0.95, 7)  # where the last one stops is its own affair
    assert spoken(text_of(c="answer (max_tokens = 4)"))["a"].max_tokens == 128


def test_a_line_of_ones_own_counts_for_the_text_channel_alone() -> None:
    text = text_of(a="answer (max_tokens = 512, temperature = 1)")
    compilation = compile_source(Source("x.mas", text))
    assert "I0675" in [d.code for d in compilation.diagnostics]
    speaking = [turn.activation for turn in compilation.require().answering]
    assert speaking == ["c#1"]  # nothing is decoded that nobody reads
    assert spoken(text)["a"] == Sampling(512, 1.0)
    assert spoken(text)["b"] == Sampling()


def test_an_answer_to_nobody_is_an_error_still() -> None:
    text = source("a! b!", "a", "b -> answer").text
    assert said(compile_source(Source("x.mas", text))) == ["E0313"]
