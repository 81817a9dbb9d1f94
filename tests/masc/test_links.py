"""Symbolic links that lead nowhere: wherever a path is given, it is said that it is a link, and to what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import masc as api
from courier import Command
from masc.dsl.diagnostics import MascError


@pytest.fixture
def links(folder: Path) -> Path:
    for name in ("x.mas", "x.masc", "x.jsonl", "x"):
        os.symlink("gone", folder / name)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "x.mas"),
        ("check", "x.masc"),
        ("check", "x"),
        ("check", "x/courier.mas"),
        ("fmt", "x.mas"),
        ("draw", "x.masc"),
        ("draw", "courier.mas", "--audit", "x.jsonl"),
        ("compile", "courier.mas", "-o", "x"),
        ("run", "x.masc", "--input", "code=1"),
        ("eval", "courier.mas", "--data", "x.jsonl"),
        ("eval", "courier.mas", "--weights", "x.masc"),
        ("train", "courier.mas", "--data", "x.jsonl"),
        ("train", "courier.mas", "--init-from", "x.masc"),
    ],
    ids=" ".join,
)
def test_a_link_to_nothing_is_told(masc: Command, links: Path, arguments: tuple[str, ...]) -> None:
    refused = masc(*arguments)
    assert refused.code == 1
    assert "a link to `gone`, which is not there" in refused.err
    assert "did you mean" not in refused.err


def test_a_program_names_a_link_to_nothing(masc: Command, links: Path) -> None:
    source = (links / "courier.mas").read_text()
    for changed in (source.replace("./tiny", "./x"), source.replace("mas 1\n", 'mas 1\nimport "x.mas" (a)\n')):
        assert changed != source
        (links / "changed.mas").write_text(changed)
        assert "a link to `gone`, which is not there" in masc("check", "changed.mas").err


def test_a_link_to_itself(masc: Command, folder: Path) -> None:
    for name in ("round.mas", "round.jsonl"):
        os.symlink(name, folder / name)
    assert "a link that leads back to itself" in masc("check", "round.mas").err
    assert "a link that leads back to itself" in masc("eval", "courier.mas", "--data", "round.jsonl").err


def test_a_link_to_something_is_followed(masc: Command, folder: Path) -> None:
    (folder / "far").mkdir()
    os.symlink("../courier.mas", folder / "far/linked.mas")
    os.symlink("../tiny", folder / "far/tiny")
    assert masc("check", "far/linked.mas").code == 0


def test_from_python(links: Path) -> None:
    for call in (lambda: api.load("x.masc"), lambda: api.compile("x.mas")):
        with pytest.raises(MascError, match="a link to `gone`"):
            call()
