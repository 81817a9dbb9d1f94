"""Trained adapters as PEFT saves them: where they lie, what their `adapter_config.json` says, which tensors they hold.

No weight is read, and neither torch nor PEFT is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import parse_json, read_json
from masc.compiler.ir.adapter import Lora
from masc.compiler.language.adapters import LORA
from masc.compiler.language.values import PROJECTIONS
from masc.compiler.models.facts import Shapes
from masc.compiler.models.folder.finding import some
from masc.compiler.models.folder.headers import tensors_of
from masc.compiler.models.locate import HUB_ID, local_folder, snapshot

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ATTENTION, _MLP = PROJECTIONS[:4], PROJECTIONS[4:]
_GROUPS = {"all": PROJECTIONS, "attention": _ATTENTION, "mlp": _MLP}
_PREFIX = "base_model.model.model.layers"
_PLAIN = ("gaussian", "eva", "orthogonal")
"""Ways to draw a fresh adapter that leave the base model as it is. After others it belongs to one that they changed."""
_UNLIKE = {
    "modules_to_save": "it holds whole modules of the model, too (`modules_to_save`)",
    "rank_pattern": "its rank differs from layer to layer (`rank_pattern`)",
    "alpha_pattern": "its alpha differs from layer to layer (`alpha_pattern`)",
    "layer_replication": "it repeats layers of the model (`layer_replication`)",
    "exclude_modules": "it leaves modules out (`exclude_modules`)",
    "lora_bias": "it trains biases of its own (`lora_bias`)",
    "target_parameters": "it sits on parameters that are no linear layers (`target_parameters`)",
    "trainable_token_indices": "it trains embeddings of tokens (`trainable_token_indices`)",
    "use_qalora": "it is QA-LoRA (`use_qalora`)",
    "alora_invocation_tokens": "it begins at some token only (`alora_invocation_tokens`)",
    "arrow_config": "it is chosen among several (`arrow_config`)",
}


@dataclass(frozen=True)
class AdapterFacts:
    """What a configuration says. lora: its options; dropout is no part of what was trained. base: the model that it was
    trained on, as it was called there; layers: which it is on (None: all)."""

    lora: Lora
    base: str | None = None
    layers: tuple[int, ...] | None = None


def locate_adapter(target: str, base: Path) -> tuple[str, Path | None] | None:
    """How the plan names an adapter, and its folder (None: an id on the hub that is not on disk). None: there is no
    such adapter."""
    if (folder := local_folder(target, base)) is not None:
        return (str(folder), folder) if (folder / CONFIG).is_file() else None
    return (target, snapshot(target, CONFIG)) if HUB_ID.match(target) else None


def read_adapter(folder: Path) -> AdapterFacts:
    """What the configuration in a folder says. OSError, or ValueError where masc cannot use such an adapter."""
    return facts_of(read_json(folder / CONFIG))


def facts_of(body: Any) -> AdapterFacts:
    """The same of a configuration as JSON, parsed or not. ValueError."""
    body = parse_json(body) if isinstance(body, bytes) else body
    if not isinstance(body, dict):
        raise ValueError("it is no configuration of an adapter")
    if body.get("peft_type") != "LORA":
        raise ValueError(f"it is no LoRA adapter: its `peft_type` is {_short(body.get('peft_type'))}")
    for name, what in _UNLIKE.items():
        if body.get(name):
            raise ValueError(what)
    if body.get("bias", "none") not in (None, "none"):
        raise ValueError(f"it trains biases (`bias` is {_short(body['bias'])})")
    drawn = body.get("init_lora_weights", True)
    if not isinstance(drawn, bool) and drawn not in _PLAIN:
        raise ValueError(f"it belongs to a base model that it has changed (`init_lora_weights` is {_short(drawn)})")
    rank, alpha, targets = (body.get(LORA[name].peft) for name in ("rank", "alpha", "targets"))
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"its rank `r` is {_short(rank)}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < float("inf"):
        raise ValueError(f"its `lora_alpha` is {_short(alpha)}")
    base, layers = body.get("base_model_name_or_path"), body.get("layers_to_transform")
    flags: dict[str, Any] = {option.name: body.get(option.peft) is True for option in LORA.values() if option.flag}
    return AdapterFacts(
        Lora(rank, float(alpha), _targets(targets), **flags),
        base=base if isinstance(base, str) and base else None,
        layers=None if layers is None else _layers(layers),
    )


def _targets(said: Any) -> tuple[str, ...]:
    if said == "all-linear":
        return ("all",)
    if not isinstance(said, list) or not said:
        raise ValueError(f"its `target_modules` are {_short(said)}, not a list of projections")
    if strange := [name for name in said if name not in PROJECTIONS]:
        raise ValueError(f"it sits on `{str(strange[0])[:80]}`, and masc adapts {', '.join(PROJECTIONS)}")
    found = tuple(name for name in PROJECTIONS if name in said)
    return next(((group,) for group, names in _GROUPS.items() if names == found), found)


def _layers(said: Any) -> tuple[int, ...]:
    listed = [said] if isinstance(said, int) else said
    if not isinstance(listed, list) or not all(isinstance(n, int) for n in listed):
        raise ValueError(f"its `layers_to_transform` are {_short(said)}")
    return tuple(sorted(listed))


def _short(value: Any) -> str:
    return repr(value)[:80]


def projections_of(targets: tuple[str, ...]) -> set[str]:
    """The projections that targets name, groups taken apart."""
    return {name for target in targets for name in _GROUPS.get(target, (target,))}


def differences(lora: Lora, facts: AdapterFacts) -> Mapping[str, tuple[str, str]]:
    """In what an agent's adapter is another one: by option, what the agent says and what the configuration says."""

    def shown(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else "+".join(value) if isinstance(value, tuple) else str(value)

    told = [option.name for option in LORA.values() if option.weights]
    pairs = {name: (getattr(lora, name), getattr(facts.lora, name)) for name in told}
    return {
        name: (shown(own), shown(theirs))
        for name, (own, theirs) in pairs.items()
        if (projections_of(own) != projections_of(theirs) if name == "targets" else own != theirs)
    }


def wrong_tensors(folder: Path, lora: Lora, shapes: Shapes, layers: int) -> Iterator[str]:
    """What is wrong with the tensors of an adapter for a model with these projections in each of so many layers."""
    held, findings = tensors_of(folder / WEIGHTS)
    if findings:
        yield findings[0].message
        return
    wanted = dict(tensors_for(lora, shapes, layers))
    missing, more = sorted(wanted.keys() - held.keys()), sorted(held.keys() - wanted.keys())
    if missing:
        yield f"lacks {some(missing)}"
    if more:
        yield f"holds {some(more)}, which such an adapter of this model has not"
    for name, shape in wanted.items():
        if name in held and held[name].shape != shape:
            yield f"holds `{name}` of shape {list(held[name].shape)}, not {list(shape)}"
            return


def numbers_at(lora: Lora, shape: tuple[int, int]) -> int:
    """How many numbers an adapter holds at one projection."""
    return sum(prod(one) for _, one in _tensors_at(lora, shape))


def tensors_for(lora: Lora, shapes: Shapes, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of an adapter's tensors, as PEFT calls them."""
    for layer in range(layers):
        for name in PROJECTIONS:
            if name in projections_of(lora.targets) and name in shapes:
                place = f"{_PREFIX}.{layer}.{'self_attn' if name in _ATTENTION else 'mlp'}.{name}"
                for tensor, shape in _tensors_at(lora, shapes[name]):
                    yield f"{place}.{tensor}", shape


def _tensors_at(lora: Lora, shape: tuple[int, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    into, out = shape
    yield "lora_A.weight", (lora.rank, into)
    yield "lora_B.weight", (out, lora.rank)
    if lora.dora:
        yield "lora_magnitude_vector", (out,)
