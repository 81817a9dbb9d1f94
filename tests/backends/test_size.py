"""What is counted from a model's config.json is what PyTorch holds in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from masc.compiler.channels import CHANNELS
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import agent_of
from masc.compiler.models.facts import read_config
from masc.compiler.models.size import lora_size, projections
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
from support import make_model, make_program

TEAM = """\
mas 1
model m = MODEL
model o = OTHER
agent a on m {{ user "{{q}}" think 2 (align = linear) adapt lora(rank = 3, targets = {targets}, dora = {dora}) }}
agent b on o {{ user "{{q}}" think 1 adapt none }}
agent c on m {{ user "{{q}}" answer adapt none }}
graph g(q) -> answer {{ a -> b : {first}  b -> c : {second} }}
"""


@pytest.mark.parametrize(
    ("targets", "dora", "first", "second"),
    [
        ("all", False, "hidden", "fuse(width = 5)"),
        ("attention", True, "hidden(link = mlp)", "fuse(layers = 1..2, width = 8)"),
        ("mlp", True, "fuse(width = 7)", "hidden(link = mlp)"),
        ("[q_proj, down_proj]", False, "fuse(layers = 0..1)", "hidden"),
    ],
)
def test_sizes_are_those_of_the_module(tiny: Path, targets: str, dora: bool, first: str, second: str) -> None:
    text = TEAM.format(targets=targets, dora=str(dora).lower(), first=first, second=second)
    program = make_program(text, tiny)
    held: dict[str, int] = {}
    for name, parameter in program.trainable().items():
        held[program.owner(name)] = held.get(program.owner(name), 0) + parameter.numel()

    sender, receiver = read_config(tiny), read_config(tiny.parent / "other")
    shapes = projections(tiny, sender)
    assert shapes is not None
    lora = Lora(3, targets=tuple(targets.strip("[]").split(", ")), dora=dora)
    expected = {"a": lora_size(shapes, sender.layers, lora) + sender.hidden**2}
    graph = compile_source(Source("x.mas", text)).graph
    assert graph is not None
    for edge, (left, right) in zip(graph.edges, ((sender, receiver), (receiver, sender)), strict=True):
        size = CHANNELS[edge.kind].links
        assert size is not None
        expected[f"{edge.kind}({agent_of(edge.sender)}, {agent_of(edge.receiver)})"] = size(edge, left, right)
    assert held == expected


def test_a_config_that_says_too_little_gives_no_shapes(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    facts = read_config(folder)
    assert projections(folder, facts) is not None
    (folder / "config.json").write_text("[]")
    assert projections(folder, facts) is None
    assert projections(tmp_path / "gone", facts) is None
