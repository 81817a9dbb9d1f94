"""One LoRA adapter per agent on one frozen base, in PEFT's own layers and file format."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from masc.backends.torch.model.applying import Aliases, make_asking, make_contextual
from masc.backends.torch.model.stored import pack, unpack
from masc.compiler.files.reading import parse_json
from masc.compiler.files.writing import atomic_write
from masc.compiler.ir.adapter import Lora
from masc.compiler.language.adapters import LORA
from masc.compiler.models.peft import CONFIG, WEIGHTS, differences, read_adapter
from masc.dsl.diagnostics import fail

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_PREFIX = "base_model.model."
"""PEFT names tensors as seen from its own wrapper, which stands above the model."""
_MAGNITUDE = "lora_magnitude_vector"
_RARE = ("rank_pattern", "alpha_pattern", "lora_bias")
_LATER = (*(option.peft for option in LORA.values() if option.flag), *_RARE)
"""Entries that some versions of PEFT leave out."""
_SHAPING = ("peft_type", *(option.peft for option in LORA.values() if option.weights), "bias", *_RARE)
"""Entries of an adapter's configuration that decide what it computes."""


_OF_EXPERTS = {"gate", "router", "w1", "w2", "w3", *MLP}
"""Names that PEFT takes for the packed tensors of all experts, whatever else is called so; and routers, which give more
than one tensor."""
_UNCALLED = {"dt_proj"}
"""Projections whose weights their blocks take without calling them (mamba's steps): an adapter would do nothing."""
_WITHOUT_OUT = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
"""Types of models in which PEFT puts no adapter on `out_proj`."""


def _targets(base: nn.Module, lora: Lora, agent: str) -> list[str]:
    """The names of the linear projections of the blocks that the adapter sits on. Experts that are packed in one tensor
    are none, and beside them neither is what PEFT would take for theirs; nor what nobody calls."""
    decoder = base.get_decoder()  # type: ignore[operator]
    sites = dict(_sites(decoder))
    packed = any(
        parameter.dim() == 3 and ".experts." in f"{name}."
        for name, module in sites.items()
        for parameter in module.parameters(recurse=False)
    )
    present = {
        name.split(".")[-1]
        for name, module in sites.items()
        if _is_linear(module.get_base_layer() if isinstance(module, LoraLayer) else module)
    } - (_OF_EXPERTS if packed else set())
    present -= _UNCALLED | ({"out_proj"} if decoder.config.model_type in _WITHOUT_OUT else set())
    wanted: set[str] = set()
    for target in lora.targets:
        wanted |= {"all": present, "attention": set(ATTENTION), "mlp": set(MLP)}.get(target, {target})
    if missing := sorted(wanted - present):
        raise fail(
            "E0618",
            f"the model of agent `{agent}` has no projection `{missing[0]}`",
            hint=f"it has {', '.join(sorted(present))}",
        )
    return sorted(wanted)


def _is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map, of numbers or of quantised ones (GPTQ's and AWQ's are classes of their own)."""
    return isinstance(module, nn.Linear) or hasattr(module, "qweight")


def add_all(base: nn.Module, asked: Mapping[str, Lora], seed: int) -> list[LoraLayer]:
    """Put a fresh adapter on the base for each agent; the layers that adapters sit on then. The usual projections that
    have none can be computed otherwise, too."""
    for agent, lora in asked.items():
        add(base, agent, lora, seed)
    make_asking(base.get_decoder(), (*ATTENTION, *MLP))  # type: ignore[operator]
    return layers_of(base)


def add(base: nn.Module, agent: str, lora: Lora, seed: int) -> None:
    """Put a fresh adapter on the base: A random from the seed and the agent's name alone, B zero, with DoRA the lengths
    of the base's rows, all float32."""
    options: dict[str, Any] = {option.peft: getattr(lora, option.name) for option in LORA.values()}
    options[LORA["targets"].peft] = _targets(base, lora, agent)
    config = LoraConfig(**options, bias="none", task_type=TaskType.CAUSAL_LM)
    device = next(base.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, agent))
        _inject(config, base, agent)
        for name, parameter in tensors(base, agent).items():
            parameter.data = parameter.data.to("cpu", torch.float32)
            if ".lora_A." in name:  # drawn here, in float32 on the CPU, so that dtype and device change nothing
                nn.init.kaiming_uniform_(parameter.data, a=5**0.5)
            parameter.data = parameter.data.to(device)
    for layer in _layers(base, agent).values():
        if lora.dora:  # anew, of float32: in bfloat16 a fresh adapter would change something
            half, other = layer.lora_A[agent].weight.data, layer.lora_B[agent].weight.data
            scale, frozen = layer.scaling[agent], layer.get_base_layer()
            magnitude: Any = layer.lora_magnitude_vector[agent]
            magnitude.update_layer(base_layer=frozen, lora_A=half, lora_B=other, scaling=scale)
        make_contextual(layer, agent)


def _inject(config: LoraConfig, base: nn.Module, agent: str) -> None:
    """Let PEFT put an adapter on the base. Where another sits on the same projections already, each of its layers is
    told to take one more: PEFT's injection, which comes to the same, looks for them in everything that all adapters
    have put there, and the time of a team would grow with the square of its agents."""
    present: dict[str, LoraConfig] = getattr(base, "peft_config", {})
    for other, known in present.items():
        if known.target_modules == config.target_modules and not known.target_parameters:
            config.target_parameters = known.target_parameters  # none, as PEFT has put it
            for name, layer in _layers(base, other).items():
                layer.update_layer(agent, config.r, lora_alpha=config.lora_alpha, target_name=name, config=config)
            present[agent] = config
            return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, base, adapter_name=agent)


def derive(seed: int, *names: str | int) -> int:
    """A seed for one purpose from a seed and what it is for; the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr((seed, *names)).encode()).digest()[:7], "big")


def tensors(base: nn.Module, agent: str) -> dict[str, nn.Parameter]:
    """The adapter's parameters by their name in the base."""
    return {
        f"{name}.{part}.{agent}.weight": getattr(layer, part)[agent]._parameters["weight"]  # what `weight` stands for
        for name, layer in _layers(base, agent).items()
        for part in ("lora_A", "lora_B", _MAGNITUDE)
        if agent in getattr(layer, part)
    }


def _sites(module: nn.Module, path: str = "", seen: set[nn.Module] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """A module and all within it by their names, as torch's `named_modules` gives them, but nothing of what is inside a
    layer that adapters sit on: that grows with the agents."""
    seen = set() if seen is None else seen
    if module not in seen:
        seen.add(module)
        yield path, module
        if not isinstance(module, LoraLayer):
            for name, child in module.named_children():
                yield from _sites(child, f"{path}.{name}" if path else name, seen)


def _layers(base: nn.Module, agent: str) -> dict[str, LoraLayer]:
    """The layers that an agent's adapter sits on, by their names."""
    return {name: one for name, one in _sites(base) if isinstance(one, LoraLayer) and agent in one.lora_A}


def layers_of(base: nn.Module) -> list[LoraLayer]:
    return [module for _, module in _sites(base) if isinstance(module, LoraLayer)]


def aliases(base: nn.Module, agent: str) -> Aliases:
    """For each parameter of an adapter a tensor that equals it and stands alone in the gradient graph: what one
    activation contributes to a gradient can be told from what others do."""
    return {name: (module, weight.view_as(weight)) for name, (module, weight) in parameters(base, agent).items()}


def parameters(base: nn.Module, agent: str) -> Aliases:
    """Each parameter of an adapter, with the module that holds it."""
    own = tensors(base, agent)
    return {name: (base.get_submodule(name.removesuffix(".weight")), weight) for name, weight in own.items()}


def save(base: nn.Module, agent: str, folder: Path, name: str | None = None) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` reads them. name: the
    base model's id or folder, by which `AutoPeftModelForCausalLM` and servers find it."""
    named = {_stored(own, agent): parameter for own, parameter in tensors(base, agent).items()}
    atomic_write(folder / WEIGHTS, pack(named))
    body = _body(base, agent) | {"base_model_name_or_path": name, "inference_mode": True}
    atomic_write(folder / CONFIG, json.dumps(body, indent=2, sort_keys=True) + "\n")


def read(base: nn.Module, agent: str, config: bytes, weights: bytes) -> dict[str, Tensor]:
    """The weights of an adapter as `save` wrote them, by parameter name. ValueError where they do not fit the one that
    is there."""
    check_config(base, agent, config)
    own = {_stored(name, agent): (name, parameter) for name, parameter in tensors(base, agent).items()}
    found = unpack(weights, {stored: parameter for stored, (_, parameter) in own.items()})
    return {own[stored][0]: tensor for stored, tensor in found.items()}


def begin(base: nn.Module, agent: str, lora: Lora, folder: Path) -> str:
    """Put the weights of a trained adapter in the place of a fresh one's, as float32; returns the sha256 of their file.
    E0557 where they are those of another one; nothing has been changed then."""
    try:
        if other := differences(lora, read_adapter(folder)):
            name, (own, theirs) = next(iter(other.items()))
            raise ValueError(f"its {name} is {theirs}, not {own}")
        own_names = {_stored(name, agent): parameter for name, parameter in tensors(base, agent).items()}
        if not (folder / WEIGHTS).is_file():  # a pipe would be waited for
            raise ValueError(f"there is no `{WEIGHTS}`")
        data = (folder / WEIGHTS).read_bytes()
        found = unpack(data, own_names, widened=True)
    except (OSError, ValueError) as error:
        raise fail("E0557", f"`{agent}` cannot begin with the adapter in `{folder}`: {error}") from None
    with torch.no_grad():
        for name, tensor in found.items():
            own_names[name].copy_(tensor)
    return hashlib.sha256(data).hexdigest()


def check_config(base: nn.Module, agent: str, config: bytes) -> None:
    """ValueError where an `adapter_config.json` says another adapter than the agent's: another rank, scale, place."""
    body = parse_json(config)
    if not isinstance(body, dict):
        raise ValueError("it is no configuration of an adapter")
    own = _body(base, agent)
    for name in _SHAPING:
        theirs = body.get(name, own[name] if name in _LATER else None)
        if name == "target_modules" and isinstance(theirs, list):
            theirs = sorted(map(str, theirs))
        if theirs != own[name]:
            raise ValueError(f"`{name}` is {str(theirs)[:80]}, not {own[name]}")


def _stored(name: str, agent: str) -> str:
    """What a file calls a parameter."""
    own = f".{_MAGNITUDE}.{agent}.weight"
    return _PREFIX + name.replace(own, f".{_MAGNITUDE}").replace(f".{agent}.weight", ".weight")


def _body(base: nn.Module, agent: str) -> dict[str, Any]:
    """An adapter's configuration as JSON; what PEFT holds as a set is sorted, so that the same adapter is the same
    bytes."""
    body: dict[str, Any] = base.peft_config[agent].to_dict()  # type: ignore[union-attr,index]
    return {key: sorted(value) if isinstance(value, set) else value for key, value in body.items()}
