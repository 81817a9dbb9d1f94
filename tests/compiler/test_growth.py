"""Compiling grows with the file, not with its square: counted in lines of Python that run, not in seconds."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source


def team(size: int) -> str:
    """Chains of five agents, a comment at each, their ends seen by one agent."""
    lines = ["mas 1", 'model small = "smollm2-135m"']
    for i in range(size):
        lines += [f"# agent {i}", f'agent a{i} on small {{ user "{{question}} {i}" think 2 }}  # latent']
    lines += ['agent last on small { user "{question}" answer }', "graph large(question) -> answer {"]
    for i in range(0, size, 5):
        lines += [f"  {' -> '.join(f'a{j}' for j in range(i, i + 5))} : kv", f"  a{i + 4} -> last : kv(carry = own)"]
    return "\n".join([*lines, "}", ""])


def stopped(size: int) -> str:
    """The same with a warning about each agent."""
    return team(size).replace("carry = own", "carry = own, gradient = stop")


def in_text(size: int) -> str:
    return (
        re.sub(r"think 2", "answer", team(size))
        .replace(": kv\n", ": text\n")
        .replace("answer {\n", "answer {\n last -> answer\n", 1)
    )


def lines_run(text: str) -> int:
    """How many lines of this project run to compile a text; a turn of a loop is a line."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal count
        if event == "line":
            count += 1
        return trace if "lark" not in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        compilation = compile_source(Source("large.mas", text))
    finally:
        sys.settrace(before)
    assert compilation.graph is not None
    return count


@pytest.mark.parametrize("program", [team, stopped, in_text])
def test_four_times_the_agents_take_four_times_the_steps(program: Callable[[int], str]) -> None:
    lines_run(program(5))  # what is done once: the grammar
    assert lines_run(program(240)) / lines_run(program(60)) < 4.3


def test_the_benchmark_measures_what_compiles() -> None:
    program = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "check.py"))["program"]
    compilation = compile_source(Source("large.mas", program(120)))
    assert compilation.graph is not None
    assert len(compilation.require().agents) == 123
    assert {d.code for d in compilation.diagnostics} <= {"I0501"}
