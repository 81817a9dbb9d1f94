"""Every word of the language is declared once, and whatever else names it follows from that."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import get_args

import pytest

import masc
from masc.backends.diagram.styles import KINDS
from masc.backends.torch.model.align import EMBEDS
from masc.backends.torch.training import grpo, origin
from masc.compiler.channels import CHANNELS
from masc.compiler.ir.adapter import Lora, adapter_text, parse_adapter
from masc.compiler.ir.graph import Edge
from masc.compiler.ir.lines import Line
from masc.compiler.ir.model import Loading, parse_loading, parse_told, told_text
from masc.compiler.ir.plan import Sampling, TrainSettings
from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.agents import ANSWER
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.declare import AdapterOption, Form
from masc.compiler.language.models import LOADS, MODEL
from masc.compiler.language.objectives import GRPO, Grpo
from masc.compiler.language.train import TRAIN
from masc.dsl.source import Source

ROOT = Path(__file__).parents[1]
MADE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
CODE = {".py", ".js", ".json", ".scm", ".css", ".lark"}


def sources() -> Iterator[tuple[str, str]]:
    """All code but the tests, with its text. What is generated is held to its declarations by a test of its own."""
    for top in ("dsl", "compiler", "backends", "masc", "editors"):
        for path in sorted((ROOT / top).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in CODE and name not in MADE["FILES"] and not {"node_modules", "test"} & {*path.parts}:
                yield name, path.read_text(encoding="utf-8")


def naming(pattern: str) -> set[str]:
    return {name for name, text in sources() if re.search(pattern, text)}


def test_what_is_generated_is_fresh() -> None:
    assert [path.name for path, _ in MADE["stale"]()] == [], "run `make generated`"


def test_every_alignment_is_computed() -> None:
    assert list(EMBEDS) == list(ALIGNMENTS)


def test_train_settings_are_what_is_declared() -> None:
    assert {f.name: f.default for f in fields(TrainSettings)} == {name: o.default for name, o in TRAIN.items()}


def test_the_options_of_a_reward_are_what_is_declared() -> None:
    """In what is read of a file, in what trains, and in what Python is given."""
    declared = {name: option.default for name, option in GRPO.items() if name != "reward"}
    for said in (Grpo, grpo.Grpo):
        assert {f.name: f.default for f in fields(said) if f.init and f.name != "reward"} == declared
    given = inspect.signature(masc.grpo).parameters.values()
    assert {one.name: one.default for one in given if one.name != "reward"} == declared


def test_what_a_run_that_goes_on_makes_of_a_setting_is_decided() -> None:
    """Refused, told with its effect, or (where rows come from) compared by content."""
    refused = {f.name for f in fields(origin.Origin)}
    assert set(TRAIN) == {"data", "eval_data"} | (set(TRAIN) & refused) | {*origin._SCHEDULE, *origin._EFFECTS}


def test_the_defaults_of_adapters_and_answers_are_what_is_declared() -> None:
    said = {name: option.default for name, option in LORA.items()}
    assert {f.name: f.default for f in fields(Lora)} == said | {"targets": (said["targets"],), "start": None}
    said = {name: option.default for name, option in ANSWER.items()}
    assert {f.name: f.default for f in fields(Sampling)} == said | {"stop": ()}


def test_how_a_model_is_loaded_is_what_is_declared() -> None:
    """What the chat template is told is each agent's in the end; all else that a model says is of `Loading`."""
    assert [f.name for f in fields(Loading)] == [name for name in MODEL if name != "template"]
    assert all(f.default is None and MODEL[f.name].default is None for f in fields(Loading))
    for load in LOADS.values():
        assert (load.library is None) != (load.dtype is None), load.name


def test_how_a_model_is_loaded_is_read_back() -> None:
    told = (("a", 1), ("b", 1.0), ("c", False), ("d", 'x "y" = z'), ("e", -2e-9))
    for loading in (Loading(), Loading("v1.0", "nf4", "cuda:1"), *(Loading(load=name) for name in LOADS)):
        line = Line(Source("<plan>", loading.text), 0, loading.text)
        assert parse_loading(line) == loading
        line.done()
    found = parse_told(Line(Source("<plan>", told_text(told)), 0, told_text(told)))
    assert [(name, value, type(value)) for name, value in found] == [(n, v, type(v)) for n, v in told]


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_channel_is_declared_whole(kind: str) -> None:
    """Its options are fields of an edge with a value of their own, and every edge of the kind has a style."""
    channel = CHANNELS[kind]
    held = {f.name for f in fields(Edge) if f.default is not MISSING}
    assert {option.field or option.name for option in channel.options.values()} <= held
    carried = channel.options["carry"].reads.words if "" not in channel.styles else [""]
    assert set(channel.styles) == set(carried)
    assert all(KINDS[style.name] == kind for style in channel.styles.values())
    for option in channel.options.values():
        assert option.default is None or option.reads.bounds is None or option.reads.bounds.holds(option.default)
        assert option.default is None or not option.reads.words or option.default == option.reads.words[0]


def test_nobody_compares_kinds_of_edges() -> None:
    assert naming(r"\b(edge|e)\.kind (==|!=|in|not in) [\"(]") == set()


def test_a_channel_is_named_where_it_is_declared_and_computed() -> None:
    """`fuse` is no word but the channel's. Of the others what stands in quotes is counted; `hidden` and `text` are also
    what is kept of a turn and what a trace holds."""
    computed = {"backends/torch/channels/arrivals.py", "backends/torch/channels/fuse.py"}
    declared = {"compiler/channels/__init__.py", "compiler/channels/fuse.py"}
    examples = {"compiler/forms/plan_text.py", "backends/torch/proving/identities.py"}
    assert naming(r"\bfuse\b") <= declared | computed | examples
    proven = {"backends/torch/proving/identities.py", "backends/torch/proving/prove.py"}
    assert naming(r'"kv"') <= {"compiler/channels/kv.py", "compiler/forms/plan_parse.py"} | proven
    kept = {"compiler/ir/arrival.py", "backends/torch/engine/patches.py", "backends/torch/engine/walk.py"}
    counted = {"compiler/cost/memory.py", "compiler/cost/passes.py", "masc/lsp/costs.py", "masc/session/lengths.py"}
    assert naming(r'"hidden"') <= {"compiler/channels/hidden.py"} | kept | counted | proven


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_an_alignment_is_named_where_it_is_declared_and_computed(name: str) -> None:
    """As a word of `align`, or in quotes (`linear` is the shape of a link, too)."""
    quoted = "" if name == "linear" else f'|"{name}"'
    beside = {"compiler/forms/plan_text.py", "backends/torch/model/depths.py"}  # where `norm` is a module's name
    found = naming(rf"\balign ?= ?{name}\b{quoted}") - beside
    assert found <= {"compiler/language/alignments.py", "backends/torch/model/align.py"}


OTHER: Mapping[str, object] = {"rank": 3, "alpha": 7.5, "targets": ("q_proj", "v_proj"), "dropout": 0.25}
"""Values of options that are no defaults; of those that are true or false it is the other one."""


@pytest.mark.parametrize("option", LORA.values(), ids=lambda option: option.name)
def test_an_option_of_adapters_is_written_wherever_its_declaration_says(option: AdapterOption) -> None:
    """Another value is another plan, and another text in each form that shows it; a plan is read back."""
    plain, other = Lora(), replace(Lora(), **{option.name: OTHER.get(option.name, True)})
    shows: dict[Form, bool] = {"plan": True, "panel": True, "weights": option.weights, "graph": option.graph != ""}
    shows |= {
        "drawing": option.drawing + option.noun != "",
        "hover": option.hover + option.noun + option.adjective != "",
    }
    assert set(shows) == set(get_args(Form)) == set(ADAPTERS["lora"].forms)
    for form, shown in shows.items():
        assert (adapter_text(plain, None, form) != adapter_text(other, None, form)) == shown, form
    for lora in (plain, other, replace(other, start='./x "y"')):
        text = adapter_text(lora, None, "plan")
        assert parse_adapter(Line(Source("<plan>", text), 0, text)) == (lora, None)
    assert option.peft


@pytest.mark.parametrize("form", ["plan", "graph", "panel", "drawing"])
def test_every_kind_of_adapter_is_written_in_its_own_way(form: Form) -> None:
    texts = [adapter_text(Lora(), None, form), adapter_text(None, None, form), adapter_text(Lora(), "planner", form)]
    assert len(set(texts)) == len(ADAPTERS)
    assert "planner" in texts[2]


def test_an_option_of_adapters_is_named_where_it_is_declared_and_computed() -> None:
    """The others are words of many meanings; of these two it can be counted."""
    declared = {"compiler/language/adapters.py", "compiler/ir/adapter.py"}
    computed = {"compiler/models/peft.py", "backends/torch/model/adapters.py", "backends/torch/model/applying.py"}
    counted = {"compiler/cost/work.py", "compiler/cost/cost.py", "masc/session/costing.py"}
    assert naming(r"\b(rslora|dora)\b") <= declared | computed | counted | {"compiler/language/other_names.py"}
