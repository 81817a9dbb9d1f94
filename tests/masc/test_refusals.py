"""What commands refuse: models that no longer compute numbers, options given twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from courier import Command


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "courier.mas", "--input", "code=1"],
        ["run", "courier.mas", "--input", "code=1", "--temperature", "0.7"],
        ["run", "courier.mas", "--data", "test.jsonl", "--out", "out.jsonl"],
        ["eval", "courier.mas"],
    ],
)
def test_the_command_fails(arguments: list[str], masc: Command, folder: Path) -> None:
    weights = folder / "tiny" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    result = masc(*arguments, "--dtype", "float32")
    assert (result.code, "E0701" in result.err) == (3, True), result
    assert not (folder / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["run", "courier.mas", "--input", "code=1", "--input", "code=2"], "--input"),
        (["check", "courier.mas", "--set", "latents=1", "--set", "latents=2"], "--set"),
        (["eval", "courier.mas", "--column", "code=a", "--column", "code=b"], "--column"),
    ],
)
def test_what_is_given_twice(arguments: list[str], option: str, masc: Command, folder: Path) -> None:
    result = masc(*arguments)
    assert result.code == 2
    assert option in result.err
    assert "given twice" in result.err
