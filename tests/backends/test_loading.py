"""A model is loaded whole or not at all, and whatever a library raises on the way is a message about the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from masc.backends.torch.model import loading
from masc.backends.torch.model.base import Base
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, compile_plan, make_program


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "m"))


def edit(path: Path, **changes: Any) -> None:
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | changes))


def drop(folder: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({n: t.clone() for n, t in load_file(path).items() if part not in n}, path, {"format": "pt"})


def unknown_type_with_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    edit(folder / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, model_type="x")


def tokenizer_with_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    auto = {"AutoTokenizer": ["evil.T", "evil.T"]}
    edit(folder / "tokenizer_config.json", auto_map=auto, tokenizer_class="EvilTokenizer")
    (folder / "tokenizer.json").unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: drop(f, "layers.1.mlp"), "E0530"),
    "surplus": (lambda f: edit(f / "config.json", num_hidden_layers=2), "E0530"),
    "missing layer": (lambda f: edit(f / "config.json", num_hidden_layers=4), "E0530"),
    "shape": (lambda f: edit(f / "config.json", intermediate_size=64), "E0530|E0616"),
    "cut off": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 10), "E0616"),
    "pointer": (lambda f: (f / "model.safetensors").write_text("version https://git-lfs"), "E0616"),
    "pickle": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "E0616"),
    "gptq": (lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "E0616"),
    "activation": (lambda f: edit(f / "config.json", hidden_act="nonsense"), "E0616"),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "E0616"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "E0616"),
    "tokenizer's config": (lambda f: (f / "tokenizer_config.json").write_text("[]"), "E0616"),
    "code": (unknown_type_with_code, "E0616"),
    "code of the tokenizer": (tokenizer_with_code, "E0616"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_folder_is_not_loaded(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask
    damage, code = DAMAGE[what]
    damage(folder)
    with pytest.raises(MascError, match=code):
        Base(folder, torch.float32).end_of_turn  # noqa: B018
    assert not (folder / "ran").exists()


def test_a_program_is_not_built_on_a_damaged_folder(folder: Path) -> None:
    """Headers are looked at again when a program is built: its plan may be older than the damage."""
    from masc.backends.torch.build import build

    plan = compile_plan(chain(("a", 0, "norm")), folder)
    drop(folder, "layers.1.mlp")
    with pytest.raises(MascError, match="E0530"):
        build(plan, folder.parent, device="cpu")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory."),
    ],
)
def test_a_model_that_does_not_fit(folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", load)
    with pytest.raises(MascError, match="E0702"):
        Base(folder, torch.float32)


def test_two_loads_of_one_folder_are_one_model(folder: Path) -> None:
    one, other = (make_program(chain(("a", 0, "norm")), folder)(ROWS).loss for _ in range(2))
    assert torch.equal(one, other)
