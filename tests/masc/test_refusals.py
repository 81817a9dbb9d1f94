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
        ["audit", "courier.mas", "-o", "out.json"],
        ["compare", "courier.mas", "--rows", "single", "--samples", "0", "-o", "out"],
        ["compare", "courier.mas", "--rows", "team", "--set", "steps=1", "-o", "out"],
    ],
)
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_the_command_fails(arguments: list[str], number: float, masc: Command, folder: Path) -> None:
    weights = folder / "tiny" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][3] = number
    save_file(tensors, weights, {"format": "pt"})
    result = masc(*arguments, "--dtype", "float32")
    assert (result.code, "E0701" in result.err) == (3, True), result
    assert result.out == ""
    assert not [
        *folder.glob("out.json"),
        *folder.glob("out.jsonl"),
        *folder.glob("out/table.*"),
        *folder.glob("out/runs/*/result-*"),
    ]


def test_an_audit_of_weights_that_are_no_numbers(masc: Command, folder: Path) -> None:
    """Fine as long as nothing crosses: one edge's weights alone have gone wrong."""
    assert masc("train", "courier.mas", "--set", "steps=2").code == 0
    weights = folder / "courier.masc/adapters/sender/adapter_model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    refused = masc("audit", "courier.masc", "-o", "out.json")
    assert (refused.code, "E0617" in refused.err) == (1, True), refused
    assert not (folder / "out.json").exists()


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


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["eval", "--data", "test.jsonl", "--data", "train.jsonl"], "--data"),
        (["eval", "--seed", "1", "--seed", "2"], "--seed"),
        (["eval", "--seed=1", "--batch=2", "--seed=1"], "--seed"),
        (["eval", "--channel", "text", "--channel", "graph"], "--channel"),
        (["compile", "-o", "a.masc", "--out", "b.masc"], "--out"),
        (["compile", "-oa.masc", "-ob.masc"], "--out"),
        (["new", "agent", "extra", "courier.mas", "--on", "small", "--on", "other"], "--on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_an_option_of_one_value_given_twice(arguments: list[str], option: str, masc: Command, folder: Path) -> None:
    before = sorted(folder.iterdir())
    result = masc(*arguments)
    assert result.code == 2, result
    assert option in result.err
    assert "given twice" in result.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("given", "told"), [("--steps", "--set steps=VALUE"), ("--learning-rate", "--set rate=VALUE")])
def test_an_entry_given_as_an_option(given: str, told: str, masc: Command, folder: Path) -> None:
    result = masc("train", given, "3")
    assert (result.code, told in result.err) == (2, True), result.err


def test_every_option_of_every_command_is_looked_at() -> None:
    """None is forgotten: each one of a single value, of whatever command."""
    import typer.main

    from masc.cli import app

    seen = 0
    group = typer.main.get_command(app)
    commands = {name: command for name, command in group.commands.items() if not hasattr(command, "commands")}
    for name, inner in group.commands.items():
        commands |= {f"{name} {sub}": command for sub, command in getattr(inner, "commands", {}).items()}
    assert {"check", "train", "eval", "new agent", "models fetch"} <= set(commands)
    for name, command in commands.items():
        for option in command.params:
            if option.param_type_name != "option" or option.is_flag or option.multiple:
                continue
            words = [option.opts[0], "1", option.opts[0], "2"]
            with pytest.raises(Exception, match="given twice"):
                command.make_context(name, words)
            seen += 1
    assert seen > 60


def test_a_switch_may_be_said_twice(masc: Command, folder: Path) -> None:
    assert masc("compile", "--force", "--force", "--set", "latents=3", "--set", "steps=2").code == 0
    assert masc("fmt", "--check", "courier.mas", "courier.mas").code == masc("fmt", "--check", "courier.mas").code
