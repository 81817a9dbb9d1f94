"""The adapters: `adapt lora(...)`, `adapt none`, `adapt as planner`, and their options.

Each is declared here, and computed in `backends/torch/model`. `Lora` (`compiler/ir/adapter.py`) holds what was read; a
test holds that its fields and defaults are these.
"""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.language.bounds import Bounds, whole
from masc.compiler.language.declare import Adapter, AdapterOption, table
from masc.compiler.language.values import numeric, targets, truth

LORA: Mapping[str, AdapterOption] = table(
    AdapterOption(
        "rank",
        numeric(whole(1, 4096)),
        "The rank of the adapter",
        16,
        peft="r",
        graph=" {}",
        drawing=" r={}",
        always=True,
        hover=" of rank {}",
    ),
    AdapterOption(
        "alpha",
        numeric(Bounds(1e-6, 1e6)),
        "Its outputs are scaled by alpha / rank",
        32.0,
        peft="lora_alpha",
        graph="/{}",
        hover=", alpha {}",
    ),
    AdapterOption(
        "targets",
        targets,
        "Which linear projections of the blocks it sits on",
        "all",
        means="the linear projections of the blocks it sits on: `all`, `attention`, `mlp` or a list of their names",
        peft="target_modules",
        graph=" {}",
        drawing=" on {}",
        hover=", on {}",
    ),
    AdapterOption(
        "dropout",
        numeric(Bounds(0.0, 0.99)),
        "Dropout before the adapter, in training",
        0.0,
        peft="lora_dropout",
        weights=False,
    ),
    AdapterOption(
        "rslora",
        truth,
        "Whether its outputs are scaled by alpha / sqrt(rank) instead of alpha / rank",
        False,
        peft="use_rslora",
        graph=" {}",
        adjective="rank-stabilised ",
    ),
    AdapterOption(
        "dora",
        truth,
        "Whether the length of each row of an adapted matrix is trained for itself (DoRA)",
        False,
        peft="use_dora",
        graph=" {}",
        noun="DoRA",
    ),
)
ADAPTERS: Mapping[str, Adapter] = table(
    Adapter(
        "lora",
        "A LoRA adapter of its own, trained; the base stays frozen.",
        LORA,
        starts=True,
        forms={
            "plan": "lora({options}){start}",
            "graph": "lora{options}{start}",
            "panel": "lora, {options}{start}",
            "drawing": "{noun}{options}",
            "hover": "{noun}{options}",
            "weights": "lora({options})",
        },
    ),
    Adapter(
        "none",
        "Nothing: the agent runs on the frozen base.",
        {},
        forms={"plan": "none", "graph": "frozen", "panel": "none: frozen", "drawing": "frozen"},
    ),
    Adapter(
        "as",
        "The adapter of another agent on the same model: both train one.",
        {},
        of=True,
        forms={"plan": "as {of}", "graph": "as {of}", "panel": "that of {of}", "drawing": "the adapter of {of}"},
    ),
)
"""What stands behind `adapt`."""
