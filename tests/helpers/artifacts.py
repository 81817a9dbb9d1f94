"""An artifact of a small team, with weights that are words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from masc.compiler.artifact import read_artifact, read_weights, save_artifact
from masc.compiler.files.writing import atomic_write
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.source import Source
from teams import source


@cache
def program(latents: int = 2) -> Compilation:
    return compile_source(Source("team.mas", source(f"a/{latents} b!", "a -> b : kv").text))


def save(root: Path, text: str, latents: int = 2) -> None:
    def put(folder: Path) -> None:
        for name in ("a", "b"):
            atomic_write(folder / "adapters" / name / "adapter_model.safetensors", f"{text} {name}")
        atomic_write(folder / "channels.safetensors", text)

    save_artifact(root, program(latents), put, models=(), seed=0, training=None)


def weights(root: Path) -> set[str]:
    """The first word of each file of weights."""
    return {data.decode().split()[0] for data in read_weights(read_artifact(root)).values()}


def refusal(run: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(MascError) as caught:
        run()
    found = errors(caught.value.diagnostics)[0]
    return found.code, found.message


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
