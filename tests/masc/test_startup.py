"""Commands that need no model start without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from warm import warm

EXAMPLE = Path(__file__).parents[2] / "examples" / "relay"

SCRIPT = """
import sys
sys.argv = ["masc", *sys.argv[1:]]
from masc.cli import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
loaded = {"torch", "transformers", "peft", "accelerate"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    "command",
    [
        ("check", EXAMPLE),
        ("compile", EXAMPLE, "--emit", "plan"),
        ("compile", EXAMPLE, "--emit", "graph"),
        ("compile", EXAMPLE, "--emit", "ast"),
        ("compile", EXAMPLE, "-o", "relay.masc"),
        ("draw", EXAMPLE, "-o", "relay.svg"),
        ("draw", EXAMPLE),
        ("explain", "E0201"),
        ("fmt", EXAMPLE, "--to", "yaml"),
        ("schema",),
        ("init", "-y"),
        ("models", "list"),
        ("--help",),
    ],
    ids=lambda command: " ".join(str(word).split("/")[-1] for word in command),
)
def test_torch_is_not_imported(command: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "startup.py").write_text(SCRIPT)
    done = warm().call(*command, script=tmp_path / "startup.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
