"""`masc models prove`: what it prints, what it remembers, and what the compiler makes of that."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import make_family

from courier import Command
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.proof import MEANS

GRAPH = """\
mas 1
model m = "./m"
agent a on m { user "{q}" adapt none }
agent b on m { user "{q}" adapt none answer (max_tokens = 3) }
graph g(q) -> answer { a -> b : kv }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.mas").write_text(GRAPH)
    return tmp_path


def test_a_model_that_holds_is_allowed_from_then_on(here: Path, masc: Command) -> None:
    make_family(here / "m", "bitnet")
    assert "bitnet" not in FAMILIES
    before = masc("check", "g.mas")
    assert before.code == 1
    assert "nothing has been proven of its type, `bitnet`" in before.err
    proven = masc("models", "prove", "./m")
    assert proven.code == 0, proven.err
    lines = {line[:64].rstrip(): line for line in proven.out.splitlines()}
    assert all(lines[what].endswith("  holds") for what in MEANS.values())
    assert "masc can use it, with edges of text, hidden and kv; remembered in" in proven.out
    assert masc("check", "g.mas").code == 0


def test_a_model_that_fails_is_refused_by_the_identity(here: Path, masc: Command) -> None:
    """minimax takes no cache but its own. The failure is remembered, too, until the folder changes."""
    make_family(here / "m", "minimax", layer_types=["linear_attention", "full_attention"], block_size=8)
    proven = masc("models", "prove", "./m")
    assert proven.code == 1
    assert "DOES NOT HOLD: ValueError: MiniMax uses cache of its own" in proven.out
    assert "error[E0524]: the model `./m` cannot be used: that a batch is its rows one by one could not" in proven.err
    after = masc("check", "g.mas")
    assert after.code == 1
    assert "error[E0524]" in after.err
    assert "a batch is its rows one by one" in after.err
    (here / "m" / "generation_config.json").write_text('{"eos_token_id": 2, "pad_token_id": 0}')
    assert "nothing has been proven of its type, `minimax`" in masc("check", "g.mas").err
