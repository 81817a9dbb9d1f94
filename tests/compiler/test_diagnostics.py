"""Source, then what is said about it. The examples of `dsl/explain` are compiled as well: one for each code."""

from __future__ import annotations

from pathlib import Path

import pytest

from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.explain import Entry, codes
from masc.dsl.source import Source
from teams import said, source

OURS = [entry for code, entry in codes().items() if code[2] in "2345" and entry.wrong is not None]


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.code)
def test_explained_examples(entry: Entry, tmp_path: Path) -> None:
    assert entry.wrong is not None
    assert entry.right is not None
    for name, text in entry.files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    wrong, right = (
        compile_source(Source(f"x.{entry.language}", text), base=tmp_path) for text in (entry.wrong, entry.right)
    )
    assert said(wrong) == [entry.code]
    assert said(right) == []
    assert right.plan is not None


TEAM = """\
mas 1
model m = "no-one/not-on-disk"
param latents: int = 2
agent planner on m {
  user "{question}"
  think latents
}
agent solver on m {
  user "{question}"
  answer
}
graph g(question) -> answer {
  planner -> solver : kv
}
"""

# what is replaced, by what, then code, line, column, part of the hint
GOLDEN = [
    ("planner -> solver", "planer -> solver", "E0201", 13, 3, "did you mean `planner`?"),
    ("planner -> solver", "question -> solver", "E0201", 13, 3, "says `{question}`"),
    ("planner on m", "planner on n", "E0201", 4, 18, "declare it"),
    ("think latents", "think latent", "E0201", 6, 9, "did you mean `latents`?"),
    (": kv", ": kv(carry = own, carry = own)", "E0202", 13, 39, "keep one"),
    ("  answer\n", "  answer\n  answer\n", "E0202", 11, 3, "keep one"),
    ("g(question)", "g(question, question)", "E0202", 12, 19, "keep one"),
    ('"{question}"\n  think', '"{questio}"\n  think', "E0207", 5, 9, "did you mean `question`?"),
    ('"{question}"\n  answer', '"{planner}"\n  answer', "E0208", 9, 9, "take `{planner}` out"),
    (": kv", ": kw", "E0405", 13, 23, "the channels are `kv`, `hidden`, `fuse`, `text`"),
    (": kv", ": hidden(merge = stack)", "E0401", 13, 30, "it takes carry, link, gradient"),
    (": kv", ": text", "E0324", 13, 3, "add `answer (max_tokens = 128)`"),
    (": kv", ": kv(layers = 9..1)", "E0404", 13, 35, "did you mean `1..9`?"),
    (": kv", ": kv(layers = 3)", "E0403", 13, 35, "`3..3`"),
    (": kv", ": kv(open = 4 as tracy)", "E0405", 13, 38, "did you mean `trace`?"),
    (": kv", ": kv(layers = 0..1 as own)", "E0401", 13, 43, None),
    ("int = 2", "int = -1", "E0404", 6, 9, None),
    ("int = 2", 'int = "two"', "E0403", 3, 22, None),
    ("int = 2", "integer = 2", "E0405", 3, 16, "did you mean `int`?"),
    ("  answer\n", "  answer (temperatur = 1)\n", "E0401", 10, 11, "did you mean `temperature`?"),
    ("  answer\n", "  answer (top_p = 0)\n", "E0404", 10, 19, None),
    ("  answer\n", "  answer (top_p = 1.5)\n", "E0404", 10, 19, None),
    ("  answer\n", '  answer (stop = ["a", 3])\n', "E0403", 10, 24, None),
    ("  answer\n", '  answer (stop = "")\n', "E0404", 10, 18, None),
    ("  answer\n", "  answer\n  adapt lora(dropout = 1)\n", "E0404", 11, 24, None),
    ("  answer\n", "  answer\n  adapt lora(targets = [q_prj])\n", "E0405", 11, 25, "did you mean `q_proj`?"),
    ("  answer\n", "  answer\n  adapt lora(targets = [])\n", "E0404", 11, 24, "adapt none"),
    ("  answer\n", "  answer\n  adapt none(rank = 3)\n", "E0401", 11, 14, "no options"),
    ("  answer\n", "  answer\n  adapt lorra\n", "E0405", 11, 9, "did you mean `lora`?"),
    ("  answer\n", '  answer\n  think 1 (align = "ridge")\n', "E0403", 11, 20, "without the quotes: `ridge`"),
    ("}\n", "}\ntrain {\n  stepps 5\n}\n", "E0401", None, None, "did you mean `steps`?"),
    ("}\n", "}\ntrain {\n  steps 0\n}\n", "E0404", None, None, None),
    ("}\n", "}\ntrain {\n  dtype float16\n}\n", "E0405", None, None, "did you mean"),
    ("}\n", "}\ntrain {\n  anser <- gold\n}\n", "E0201", None, None, "did you mean `answer`?"),
    ("}\n", "}\ntrain {\n  data 3\n}\n", "E0403", None, None, None),
]


@pytest.mark.parametrize(("old", "new", "code", "line", "column", "hint"), GOLDEN)
def test_where_and_what(old: str, new: str, code: str, line: int | None, column: int | None, hint: str | None) -> None:
    assert old in TEAM
    head, _, tail = TEAM.rpartition(old) if old in ("}\n", "  answer\n", ": kv") else TEAM.partition(old)
    compilation = compile_source(Source("x.mas", head + new + tail))
    assert said(compilation) == [code]
    (diagnostic,) = (d for d in compilation.diagnostics if d.severity == "error")
    assert diagnostic.span is not None
    if line is not None:
        assert (diagnostic.span.line, diagnostic.span.column) == (line, column)
    assert (hint or "") in (diagnostic.hint or "")
    assert compilation.plan is None


def only(compilation_source: Source, code: str) -> Diagnostic:
    compilation = compile_source(compilation_source)
    assert said(compilation) == [code]
    return next(d for d in compilation.diagnostics if d.code == code)


def test_a_cycle_shows_its_path_and_both_ends() -> None:
    found = only(source("a b c d!", "a -> b -> c -> a : kv", "c -> d : kv"), "E0305")
    assert "a -> b -> c -> a" in found.message
    assert len(found.labels) == 2


def test_two_cycles_are_two_errors() -> None:
    compilation = compile_source(source("a b c d e!", "a -> b -> a : kv", "c -> d -> c : kv", "[a, b, c, d] -> e : kv"))
    assert said(compilation) == ["E0305", "E0305"]


def test_several_errors_in_one_file_in_its_order() -> None:
    edges = ["a -> bb : kv(cary = own)", "a -> a : kv", "x -> c : kv"]
    compilation = compile_source(source("a b/-1 c!".replace("/-1", ""), *edges, model="nope"))
    assert said(compilation) == ["E0501", "E0201", "E0401", "E0303", "E0201"]
    assert compilation.graph is not None
    assert compilation.plan is None


def test_disagreeing_merges_point_at_both() -> None:
    found = only(source("a b c!", "a -> c : kv(merge = stack)", "b -> c : kv(merge = overlap)"), "E0315")
    assert found.labels[0].span.text == "merge = stack"


def test_an_edge_that_does_not_say_how_it_merges_does_as_the_others() -> None:
    plan = compile_source(source("a b c!", "repeat 1 { a -> c : kv }", "b -> c : kv(merge = stack)")).require()
    assert any(view.shift for turn in plan.turns for view in turn.sees)


def test_two_answering_agents_point_at_both() -> None:
    found = only(source("a! b!", "a -> b : kv"), "E0310")
    assert [label.span.text for label in found.labels] == ["answer", "answer"]
    assert found.hint == "say which: `b -> answer`"
    both = only(source("a! b!", "a -> b : kv", "[a, b] -> answer"), "E0310")
    assert "both give" in both.message


def test_duplicate_edge_by_a_product() -> None:
    assert only(source("a b!", "[a, a] -> b : kv"), "E0304").labels


def test_an_adapter_that_is_reached_only_while_a_channel_is_open_is_told_so() -> None:
    """Not that training leaves it as it is. It is told for how many steps; what is reached for good is not told."""
    narrow = "b -> c : kv(carry = own, layers = 0..0, open = {} as trace)"
    found = only(source("a b c!", "a -> b : kv", narrow.format(10)), "W0314")
    assert "`a` from step 10 on" in found.message
    never = only(source("a b c!", "a -> b : kv", narrow.format(0)), "W0303")
    assert (never.span and never.span.text, found.span and found.span.text) == ("a", "a")
    wide = narrow.format(10).replace("layers = 0..0", "layers = all")
    assert said(compile_source(source("a b c!", "a -> b : kv", wide))) == []
    two = ["a -> b : kv", narrow.format(10), "a -> d : kv", narrow.format(7).replace("b -> c", "d -> c")]
    assert "`a` from step 10 on" in only(source("a b d c!", *two), "W0314").message
    both = compile_source(source("a b c!", "a -> b : kv", "b -> c : kv(carry = latents, open = 4)"))
    assert said(both) == ["W0314", "W0301"]
    assert "passes nothing once the channel is closed" in both.diagnostics[-1].message


def test_stopped_gradient_names_agent_and_edge() -> None:
    compilation = compile_source(source("a/1 b/1 c!", "a -> b : kv", "b -> c : kv(gradient = stop)"))
    assert said(compilation) == ["W0303", "W0303"]
    assert all(d.labels[0].span.text == "b -> c" for d in compilation.diagnostics if d.code == "W0303")
    assert compilation.plan is not None


# --set: settings, then the codes, or the steps that `planner` thinks
SETTINGS = [
    ({"latents": "20"}, 20),
    ({"latents": "x"}, ["E0403"]),
    ({"latents": "-1"}, ["E0404"]),
    ({"latens": "1"}, ["E0206"]),
    ({"steps": "12", "rate": "1e-3", "dtype": "float32", "data": "x.jsonl"}, 2),
    ({"steps": "many"}, ["E0403"]),
    ({"dtype": "int8"}, ["E0405"]),
    ({"rate": "nan"}, ["E0404"]),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS)
def test_set(settings: dict[str, str], expected: int | list[str]) -> None:
    compilation = compile_source(Source("x.mas", TEAM), set=settings)
    if isinstance(expected, list):
        assert said(compilation) == expected
        assert all(d.span is not None for d in compilation.diagnostics)
        return
    assert compilation.graph is not None
    think = compilation.require().turns[0].think
    assert think is not None
    assert think.steps == expected


def test_set_reaches_train() -> None:
    settings = {"steps": "12", "rate": "1", "dtype": "float32", "data": "3"}
    train = compile_source(Source("x.mas", TEAM), set=settings).require().train
    assert (train.steps, train.rate, train.dtype, train.data) == (12, 1.0, "float32", "3")
    assert isinstance(train.rate, float)


def test_unknown_names_to_set_and_to_cut_have_hints() -> None:
    compilation = compile_source(Source("x.mas", TEAM), set={"latens": "1"}, cut=(("planner", "solvr"),))
    hints = {d.code: d.hint for d in compilation.diagnostics}
    assert hints["E0206"] == "did you mean `latents`?"
    assert hints["E0317"] == "did you mean `planner:solver`?"


def test_words_win_over_parameters() -> None:
    text = TEAM.replace("param latents", 'param ridge: text = "norm"\nparam way: text = "linear"\nparam latents')
    plan = compile_source(Source("x.mas", text.replace("think latents", "think latents (align = ridge)"))).require()
    assert [turn.think.align for turn in plan.turns if turn.think] == ["ridge"]
    plan = compile_source(Source("x.mas", text.replace("think latents", "think latents (align = way)"))).require()
    assert [turn.think.align for turn in plan.turns if turn.think] == ["linear"]


def test_open_zero_is_no_opening() -> None:
    compilation = compile_source(source("a/1 b!", "a -> b : kv(carry = latents, open = 0)"))
    assert compilation.graph is not None
    assert compilation.graph.edges[0].open is None


@pytest.mark.parametrize(
    ("without", "with_"),
    [
        (["a -> b"], ["a -> b : kv"]),
        (["a -> b -> c", "c -> answer"], ["a -> b -> c : kv", "c -> answer"]),
        (["a -> b -> c -> answer"], ["a -> b -> c : kv", "c -> answer"]),
        (["[a, b] -> c"], ["[a, b] -> c : kv"]),
        (["a -> [b, c]", "[b, c] -> d : hidden"], ["a -> [b, c] : kv", "[b, c] -> d : hidden"]),
        (["b -> c : kv(merge = stack)", "a -> c"], ["b -> c : kv(merge = stack)", "a -> c : kv(merge = stack)"]),
        (["repeat 2 { a -> c  c -> a }"], ["repeat 2 { a -> c : kv  c -> a : kv }"]),
    ],
)
def test_an_edge_without_a_channel_is_kv(without: list[str], with_: list[str]) -> None:
    names = sorted({name for name in "abcd" if f"{name} " in " ".join(with_).replace(",", " ").replace("]", " ")})
    agents = " ".join(f"{name}/1" for name in names) + "!"
    plans = [compile_source(source(agents, *edges)).require() for edges in (without, with_)]
    assert plans[0] == plans[1]


def test_an_edge_without_a_channel_is_held_to_what_kv_is() -> None:
    found = only(source("a b!", "a -> b", "a -> b : kv"), "E0304")
    assert "`kv` edge" in found.message
    assert only(source("a b!", "a -> b -> anser"), "E0201").hint == "did you mean `answer`?"
    assert said(compile_source(source("a! b!", "a -> answer -> b"))) == ["E0308"]


def test_a_channel_that_never_closes_is_told_with_set_too() -> None:
    team = TEAM.replace(": kv", ": kv(carry = latents, open = 15)")
    assert said(compile_source(Source("x.mas", team))) == []
    assert said(compile_source(Source("x.mas", team), set={"steps": "16"})) == []
    for steps in ("15", "4"):
        compilation = compile_source(Source("x.mas", team), set={"steps": steps})
        assert said(compilation) == ["W0304"]
        assert compilation.plan is not None
