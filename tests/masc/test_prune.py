"""`masc prune`: the graph without its closed edges runs at once and says what it said; `masc draw` shows gates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import masc
from masc.compiler.artifact import gates_of, read_artifact
from masc.dsl.diagnostics import MascError
from masc.session.pruning import prune
from support import make_model, wake

TEAM = """\
mas 1

model small = MODEL
param latents: int = 1

# Holds what is asked.
agent ada on small {
  user   "{one} a"
  think  latents
  adapt  lora(rank = 2)
}

agent bob on small {
  user   "{two} b"
  adapt  lora(rank = 2)
}

agent eve on small {
  user   "{three} e"
  adapt  lora(rank = 2)
}

agent sol on small {
  user   "So"
  adapt  lora(rank = 2)
  answer (max_tokens = 5)
}

graph team(one, two, three) -> answer {
  eve -> bob : kv(gate = learned)
  [ada, bob] -> sol : kv(carry = own, gate = learned)  # the two that speak
}

train {
  answer <- answer
}
"""
ROWS = [{"one": "up " * (k + 9), "two": "x", "three": "y" * k, "answer": "yes" * k} for k in (1, 2, 3)]


def made(folder: Path, model: Path, text: str = TEAM, gates: dict[str, float] | None = None, **options: Any) -> Any:
    """A program that was saved as `team.masc`, its gates half open but for some."""
    path = folder / "team.mas"
    path.write_text(text.replace("MODEL", f'"{model}"').replace("OTHER", f'"{model.parent / "other"}"'))
    program = masc.compile(path, device="cpu", **options)
    wake(program)
    for name, alpha in (gates or {}).items():
        program.gates()[name].log_alpha.data.fill_(alpha)
    program.save(folder / "team.masc")
    return program


def logits(program: Any) -> torch.Tensor:
    with torch.no_grad():
        return program(ROWS).logits


def test_the_pruned_team_says_the_same(tiny: Path, tmp_path: Path) -> None:
    """`bob` starts as late with `eve` cut as without her where `ada` is the longest; nothing else moves."""
    program = made(tmp_path, tiny, gates={"kv(ada, sol)": 0.5, "kv(bob, sol)": -9.0})
    done = prune(tmp_path / "team.masc")
    assert (done.source, done.artifact) == (tmp_path / "team-pruned.mas", tmp_path / "team-pruned.masc")
    assert done.closed == {"kv(bob, sol)": 0.0}
    assert set(done.kept) == {"kv(eve, bob)", "kv(ada, sol)"}
    assert done.left_out == ("bob", "eve")
    text = done.source.read_text()
    assert "ada -> sol : kv(carry = own, gate = learned)  # the two that speak" in text
    assert "# Holds what is asked." in text
    assert "graph team(one) -> answer" in text
    assert "bob" not in text
    assert "eve" not in text
    assert masc.check(done.source) == []
    pruned = masc.load(done.artifact, device="cpu")
    torch.testing.assert_close(logits(pruned), logits(program), atol=1e-4, rtol=0)
    assert pruned.generate(ROWS) == program.generate(ROWS)
    assert sorted(path.name for path in (done.artifact / "adapters").iterdir()) == ["ada", "sol"]
    assert gates_of(read_artifact(done.artifact)) == {"kv(ada, sol)": pytest.approx(done.kept["kv(ada, sol)"])}
    masc.train(pruned, ROWS, steps=1)


def test_in_the_middle_of_a_team(tiny: Path, tmp_path: Path) -> None:
    """Only `eve` goes. `bob` starts where she would have ended no longer, which is told."""
    program = made(tmp_path, tiny, gates={"kv(eve, bob)": -9.0}, set={"latents": 2})
    done = prune(tmp_path / "team.mas", tmp_path / "small.masc")
    assert (done.source, done.artifact) == (tmp_path / "small.mas", tmp_path / "small.masc")
    assert done.left_out == ("eve",)
    assert done.moved == ("bob#1",)
    pruned = masc.load(done.artifact, device="cpu")
    assert pruned.plan.turn("ada#1").think.steps == 2  # as `set` said
    assert not pruned.plan.turn("bob#1").sees
    assert set(pruned.gates()) == {"kv(ada, sol)", "kv(bob, sol)"}
    before = {name: p for name, p in program.trainable().items() if "eve" not in name}
    assert before.keys() == pruned.trainable().keys()
    assert all(torch.equal(p, pruned.get_parameter(name)) for name, p in before.items())


GIVES = "answer }\ngraph"
MANY = """\
mas 1
model m = MODEL
model n = OTHER
agent a on m { user "{q} a" think 1 adapt lora(rank = 2) }
agent b on m { user "{a} b {q} {c}" think 1 (align = linear) adapt lora(rank = 2) answer }
agent c on n { user "{q} c" think 1 (align = linear) adapt lora(rank = 2) answer }
graph g(q) -> answer {
  repeat 2 {
    a -> b : hidden(gate = learned)
    b -> a : kv(gate = learned)
    c -> b : hidden(link = mlp, gate = learned)
  }
  a -> c : fuse(width = 4, gate = learned)
  b -> answer
}
"""


def test_channels_of_every_kind(tiny: Path, tmp_path: Path) -> None:
    """Vectors that do not come any more leave no placeholder behind; links go with their edges."""
    text = MANY.replace("a -> c : fuse(width = 4, gate = learned)", "").replace(GIVES, GIVES.replace("answer ", ""))
    rows = [{"q": "so " * k, "answer": "y"} for k in (1, 2)]
    program = made(tmp_path, tiny, text, {"hidden(c, b)": -9.0})
    done = prune(tmp_path / "team.masc")
    assert done.left_out == ("c",)
    assert '"{a} b {q} "' in done.source.read_text()
    pruned = masc.load(done.artifact, device="cpu")
    with torch.no_grad():
        one, other = program(rows).logits, pruned(rows).logits
    assert one.shape == other.shape
    assert not torch.equal(one, other)  # what stands behind the vectors has moved up
    assert set(pruned.across) == {"hidden(a, b)", "kv(b, a)"}
    assert set(pruned.links) == {"b"}


def test_closed_vectors_are_as_none(tmp_path: Path) -> None:
    """In front of all else they move nothing but all of it."""
    model = make_model(tmp_path / "plain", template=None)
    text = """\
mas 1
model m = MODEL
agent a on m { user "{q} a" think 2 adapt lora(rank = 2) }
agent d on m { user "d {q}" adapt lora(rank = 2) }
agent b on m { user "{a}b {q}." adapt lora(rank = 2) answer (max_tokens = 4) }
agent c on m { user "c" adapt lora(rank = 2) answer (max_tokens = 4) }
graph g(q) -> answer { a -> b : hidden(gate = learned)  d -> b : fuse(width = 4)  b -> c : kv  c -> answer }
"""
    text = text.replace("adapt lora(rank = 2) answer (max_tokens = 4) }\nagent c", "adapt lora(rank = 2) }\nagent c")
    rows = [{"q": "so " * k, "answer": "y" * k} for k in (1, 2, 3)]
    program = made(tmp_path, model, text, {"hidden(a, b)": -9.0})
    pruned = masc.load(prune(tmp_path / "team.masc").artifact, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(pruned(rows).logits, program(rows).logits, atol=1e-4, rtol=0)
    assert pruned.generate(rows) == program.generate(rows)


def test_a_closed_fuser_leaves_the_answers_as_they_are(tiny: Path, tmp_path: Path) -> None:
    text = """\
mas 1
model m = MODEL
model n = OTHER
agent a on n { user "{q} a" adapt lora(rank = 2) }
agent d on m { user "{q} d" adapt lora(rank = 2) }
agent b on m { user "b {q}." adapt lora(rank = 2) answer (max_tokens = 4) }
graph g(q) -> answer { a -> b : fuse(width = 4, gate = learned)  d -> b : kv }
"""
    rows = [{"q": "so " * k, "answer": "y" * k} for k in (1, 2, 3)]
    program = made(tmp_path, tiny, text, {"fuse(a, b)": -9.0})
    done = prune(tmp_path / "team.masc")
    assert done.left_out == ("a",)
    assert "OTHER" not in done.source.read_text()
    assert "model n" not in done.source.read_text()
    pruned = masc.load(done.artifact, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(pruned(rows).logits, program(rows).logits, atol=1e-4, rtol=0)
    assert pruned.generate(rows) == program.generate(rows)
    assert not (done.artifact / "channels.safetensors").exists()


def refused(*arguments: Any) -> tuple[str, str]:
    with pytest.raises(MascError) as caught:
        prune(*arguments)
    return caught.value.diagnostics[0].code, caught.value.diagnostics[0].message


def test_what_is_refused(tiny: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if ".lock" not in path.name}
    assert refused(tmp_path / "team.masc")[0] == "E0652"
    code, message = refused(tmp_path / "team.masc", None, 1.0)
    assert code == "E0652"
    assert "every edge into `sol`, which gives `answer`, would close" in message
    assert refused(tmp_path / "team.masc", tmp_path / "x.txt", 0.99)[0] in ("E0545", "E0652")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if ".lock" not in path.name} == before
    plain = tmp_path / "plain"
    plain.mkdir()
    made(plain, tiny, TEAM.replace(", gate = learned", "").replace("(gate = learned)", ""))
    assert refused(plain / "team.masc")[0] == "E0651"
    fresh = tmp_path / "fresh.mas"
    fresh.write_text(TEAM.replace("MODEL", f'"{tiny}"'))
    assert refused(fresh)[0] == "E0650"


def test_nothing_is_written_over(tiny: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny, gates={"kv(eve, bob)": -9.0})
    (tmp_path / "team-pruned.mas").write_text("mine")
    assert refused(tmp_path / "team.masc")[0] == "E0545"
    assert (tmp_path / "team-pruned.mas").read_text() == "mine"
    assert refused(tmp_path / "team.masc", tmp_path / "x.txt")[0] == "E0545"
    assert refused(tmp_path / "team.masc", tmp_path / "team.masc" / "x.mas")[0] == "E0545"


def test_an_adapter_that_is_needed_is_no_loss(tiny: Path, tmp_path: Path) -> None:
    text = TEAM.replace('user   "So"\n  adapt  lora(rank = 2)', 'user   "So"\n  adapt  as eve')
    made(tmp_path, tiny, text, {"kv(eve, bob)": -9.0})
    code, message = refused(tmp_path / "team.masc")
    assert (code, message) == ("E0653", "`eve` would be left out, and `sol` has its adapter")


def test_what_a_template_names_cannot_be_taken_out(tiny: Path, tmp_path: Path) -> None:
    text = MANY.replace('agent b on m { user "{a} b {q} {c}"', 'agent t(w: text) on m { user "{w} {a} b {q} {c}"')
    text = text.replace("  repeat 2 {", '  b = t("so")\n  repeat 2 {').replace(GIVES, GIVES.replace("answer ", ""))
    text = text.replace("  a -> c : fuse(width = 4, gate = learned)\n", "")
    made(tmp_path, tiny, text, {"hidden(c, b)": -9.0})
    code, message = refused(tmp_path / "team.masc")
    assert code == "E0653"
    assert "`c` is not an input of the graph" in message


# -- drawings ----------------------------------------------------------------------------------------------------------


def test_a_drawing_of_a_trained_artifact_shows_its_gates(tiny: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny, gates={"kv(eve, bob)": -9.0, "kv(ada, sol)": 9.0, "kv(bob, sol)": 0.0})
    masc.draw(tmp_path / "team.masc", tmp_path / "drawn.svg")
    drawn = (tmp_path / "drawn.svg").read_text()
    assert all(text in drawn for text in ("gate 0, closed", "gate 1.00", "gate 0.50"))
    masc.draw(tmp_path / "team.mas", tmp_path / "plain.svg")
    assert "gate learned" in (tmp_path / "plain.svg").read_text()
    assert "gate learned" not in drawn
    for suffix in ("html", "mmd", "dot", "txt"):
        masc.draw(tmp_path / "team.masc", tmp_path / f"drawn.{suffix}")
        assert "gate 0.50" in (tmp_path / f"drawn.{suffix}").read_text()


def test_that_takes_no_torch(tiny: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny, gates={"kv(eve, bob)": -9.0})
    code = (
        "import sys; from masc.cli import app; "
        "app(['draw', 'team.masc', '-o', 'x.txt'], standalone_mode=False); "
        "app(['prune', 'team.masc'], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gate 0, closed" in (tmp_path / "x.txt").read_text()
    lines = done.stderr.splitlines()
    assert "closed: kv(eve, bob), 0" in lines
    assert "left out: eve, which leads to no output any more" in lines


def test_damaged_weights_are_told(tiny: Path, tmp_path: Path) -> None:
    made(tmp_path, tiny, gates={"kv(eve, bob)": -9.0})
    path = tmp_path / "team.masc" / "channels.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    assert refused(tmp_path / "team.masc")[0] == "E0617"
