"""What layers of a recurrent model keep goes along chains as a whole, or the edge is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from folders import fill
from masc.compiler.analysis.handing import check_states, handed
from masc.compiler.analysis.sights import sights
from masc.compiler.models.locate import check_plan, look_into
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.source import Source

CONFIG = {"model_type": "qwen3_5_text", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
AGENTS = """\
mas 1
model m = "./m"
agent a on m { user "A {q}" think 2 adapt none }
agent b on m { user "B {q}" think 2 adapt none }
agent c on m { user "C {q}" adapt none answer (max_tokens = 4) }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("states")
    (made / "m").mkdir()
    (made / "m" / "config.json").write_text(json.dumps(CONFIG))
    fill(made / "m")
    return made


def compiled(folder: Path, edges: str, model: str = "./m") -> Compilation:
    text = AGENTS.replace("./m", model) + f"graph g(q) -> answer {{ {edges} }}\n"
    return compile_source(Source("g.mas", text), base=folder)


@pytest.mark.parametrize(
    "edges",
    [
        "a -> b -> c : kv",
        "a -> b : hidden  b -> c : kv(gradient = stop)",
        "a -> b : kv  b -> c : hidden(link = mlp)",
        # Each sees all that has been read before, by whatever edges.
        "a -> b : kv  a -> c : kv  b -> c : kv",
        "a -> b : kv  repeat 2 { b -> c : kv  c -> b : kv }",
    ],
)
def test_chains_are_allowed(folder: Path, edges: str) -> None:
    assert [d for d in compiled(folder, edges).diagnostics if d.severity == "error"] == []


@pytest.mark.parametrize(
    ("edges", "why"),
    [
        ("a -> b : kv  b -> c : kv(carry = latents)", "of `b#1` only latents would be seen"),
        ("a -> b -> c : kv(carry = own)", "no turn has read all that it would see"),
        ("[a, b] -> c : kv", "no turn has read all that it would see (`a#1`, `b#1`), and nothing else"),
        ("a -> b : kv  b -> c : kv(layers = 0..1)", "by some of the layers alone"),
        ("a -> b : kv  b -> c : kv(gate = learned)", "a gate would stand before"),
        ("a -> b : kv  a -> c : kv(gradient = stop)  b -> c : kv(layers = 0..1)", "by some of the layers alone"),
        ("a -> b : kv  [a, b] -> c : kv(merge = stack)", "keeps what can be handed on as a whole alone"),
        ("a -> b : kv  b -> c : fuse", "keeps what can be handed on as a whole alone"),
        ("a -> b : kv  b -> c : hidden(gate = learned)", "a gate closes attention alone"),
    ],
)
def test_what_no_state_is_of_is_refused_with_the_reason(folder: Path, edges: str, why: str) -> None:
    found = [d for d in compiled(folder, edges).diagnostics if d.severity == "error"]
    assert {d.code for d in found} == {"E0523"}
    assert any(why in d.message for d in found), found
    assert all("layers without attention keep a state" in d.message and d.span is not None and d.hint for d in found)


def test_a_plan_is_checked_once_its_models_are_there(folder: Path) -> None:
    """What was compiled before is refused for the same reason; what is cut out of a chain, too."""
    plan = compiled(folder, "[a, b] -> c : kv", "someone/model").require()
    facts, _ = look_into(folder / "m", "m")
    assert facts is not None
    assert check_plan(plan, {"m": facts}) == []
    assert [d.code for d in check_states(plan, {"m": facts})] == ["E0523"]
    chain = compiled(folder, "a -> b : kv  a -> c : kv  b -> c : kv").require()
    seen = sights(chain)
    assert handed(seen["c#1"], seen) == "b#1"
    with pytest.raises(ValueError, match="no turn has read all"):
        handed(seen["c#1"], {**seen, "b#1": ()})
