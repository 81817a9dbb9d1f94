"""One agent of a team for other programs: a plain transformers folder, its adapter folded into the weights, or the
adapter as PEFT loads it."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from masc.backends.torch.model import adapters
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.loading import load
from masc.compiler.ir.plan import PlanAgent
from masc.compiler.language.models import QUANTISED
from masc.dsl.diagnostics import fail, first_line

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
)
_LICENCES = "LICEN[CS]E*"


def write_adapter(base: Base, agent: PlanAgent, name: str, folder: Path) -> None:
    """What `AutoPeftModelForCausalLM` loads: the adapter with the base model's name in its configuration, and the
    tokenizer beside it. name: the base's id on the hub, or its folder."""
    assert agent.adapter is not None
    adapters.save(base.model, agent.adapter, folder, name)
    _copy_tokenizer(base, folder)


def write_merged(base: Base, agent: PlanAgent, folder: Path, dtype: torch.dtype | None = None) -> torch.dtype:
    """A folder that transformers, vLLM and llama.cpp's converter take: the base model with the agent's adapter folded
    into its weights, its tokenizer, chat template and licence. An agent without an adapter is its base model.

    It is folded in float32 and rounded once. A quantised base is written as the numbers that its weights stand for:
    those that the adapter was trained on. dtype: of what is written; None: as the base is stored, bfloat16 where it is
    quantised. Returns it. E0647 where nobody knows what quantised weights stand for.
    """
    asked: Any = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True}
    model: Any
    if getattr(base.model, "hf_quantizer", None) is None:
        model = AutoModelForCausalLM.from_pretrained(base.folder, dtype="auto", **asked)
        stored: torch.dtype = dtype or model.dtype
    else:
        model, stored = _dequantised(base), dtype or torch.bfloat16
    model = model.float()
    if agent.adapter is not None:
        part = folder / ".adapter"
        adapters.save(base.model, agent.adapter, part)
        model = PeftModel.from_pretrained(model, str(part)).merge_and_unload(safe_merge=True)
        shutil.rmtree(part)
    model.to(stored).save_pretrained(folder)
    _copy_tokenizer(base, folder)
    return stored


def _dequantised(base: Base) -> Any:
    """A quantised base model with plain weights, on the CPU."""
    loaded, _ = load(base.folder, torch.float32, base.load if base.load in QUANTISED else None)
    try:
        weights = loaded.dequantize().state_dict()
    except Exception as error:  # libraries say in their own ways that they cannot
        message = f"the weights of {base.folder} are {base.held}, and cannot be written as numbers: {first_line(error)}"
        raise fail("E0647", message, hint="export the adapter alone, without `--merged`") from None
    config = deepcopy(loaded.config)
    vars(config).pop("quantization_config", None)
    plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # one that knows of no quantisation
    plain.load_state_dict(weights)
    return plain


def _copy_tokenizer(base: Base, folder: Path) -> None:
    """The files as they are; where the base has its tokenizer in another form, as transformers writes it."""
    found = [base.folder / name for name in _TOKENIZER if (base.folder / name).is_file()]
    for path in (*found, *base.folder.glob(_LICENCES)):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        base.tokenizer.save_pretrained(folder)
