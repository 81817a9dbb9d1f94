"""Loading a base model and its tokenizer from a folder: what is loaded, how its weights are held, and what is wrong
when it cannot be."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from masc.backends.torch.model.attention import NAME
from masc.backends.torch.model.products import linear
from masc.backends.torch.model.recurrent import why_recurrent
from masc.compiler.files.reading import read_json
from masc.compiler.language.models import LOADS
from masc.compiler.models.folder.finding import some
from masc.compiler.models.folder.headers import read_headers, weight_files
from masc.dsl.diagnostics import MascError, fail, first_line

_NAMES_OF_TEXT = {
    r"^language_model\.model\.": "model.",
    r"^language_model\.lm_head": "lm_head",
    r"^model\.language_model\.": "model.",
}
"""How checkpoints of models that also see or hear call the tensors of their text model."""
_SENSES = re.compile(r"vision|visual|image|audio|speech|multi_modal|mm_proj|projector")


AUTO = "auto"
"""A device: the GPU where there is one and the weights fit it, else all GPUs, each with some of the blocks."""
SPREAD = "spread"
ROOM = 0.7
"""Of the free memory of a GPU so much may hold weights: the rest is for caches and passes."""


def place_of(size: int, free: Sequence[int]) -> str:
    """Where `AUTO` puts weights of so many bytes: `cpu`, `cuda`, or `SPREAD` over all GPUs. free: bytes of each GPU.
    E0702 where all of them together have no room."""
    if not free:
        return "cpu"
    if size <= ROOM * free[0]:
        return "cuda"
    if size <= ROOM * sum(free):
        return SPREAD
    room = ROOM * sum(free)
    message = f"the weights are {size / 2**30:.1f} GB, and for weights there is room for {room / 2**30:.1f} GB"
    raise fail("E0702", message, hint="a smaller model, `load = nf4`, or more GPUs")


def is_spread(model: Any) -> bool:
    """Whether a model's blocks are on several devices. What goes into a pass, and what comes of it, is then on that of
    its input embedding; keys and values are where their layer is."""
    return len({str(place) for place in getattr(model, "hf_device_map", {}).values()}) > 1


def applied(module: Any, tensor: torch.Tensor) -> torch.Tensor:
    """What a module with one weight makes of a tensor, wherever it is."""
    made = linear(module)(tensor.to(module.weight.device))
    return made.to(tensor.device)


def _free() -> list[int]:
    """Bytes that are free, of each GPU."""
    return [int(torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())]


def _size(folder: Path, dtype: torch.dtype, quantised: str | None) -> int:
    """Bytes of the weights, as they are to be held."""
    if quantised is None and method_of(read_json(folder / "config.json").get("quantization_config")) is not None:
        return sum((folder / name).stat().st_size for name in weight_files(folder))
    numbers = sum(prod(tensor.shape) for tensor in (read_headers(folder)[0] or {}).values())
    return int(numbers * (dtype.itemsize if quantised is None else LOADS[quantised].bytes))


def load(
    folder: Path, dtype: torch.dtype, quantised: str | None = None, device: torch.device | str | None = None
) -> tuple[Any, Any]:
    """The model and the tokenizer of a folder, no code of the folder run, nothing asked of the network or the user.

    quantised: how the projections of its blocks are held (`QUANTISED`); None: as they are stored, in the dtype if they
    are numbers. device: where it is put; None: on the CPU; or `AUTO`.

    E0530 where the weights are not exactly the model's own: what a checkpoint lacks would be drawn at random. E0616 for
    whatever else speaks against it, E0702 where the memory is not enough.
    """
    asked: Any = {"trust_remote_code": False, "local_files_only": True}
    place = place_of(_size(folder, dtype, quantised), _free()) if device == AUTO else device
    told = _quantisation(folder, dtype, quantised, place)
    if place == SPREAD:
        told |= {"device_map": AUTO, "max_memory": dict(enumerate(_free()))}
    try:
        transformers_logging.disable_progress_bar()
        text = _text_part(folder, **asked)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=NAME,
            use_safetensors=True,
            output_loading_info=True,
            **told,
            **({} if text is None else {"config": text, "key_mapping": _NAMES_OF_TEXT}),
            **asked,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **asked)
        cut = tokenizer.backend_tokenizer.model  # what is not of the `tokenizers` library has none
        if getattr(cut, "dropout", None):  # a text would be other tokens each time
            cut.dropout = None
    except Exception as error:  # transformers and tokenizers raise whatever goes wrong in them
        raise no_memory(error) or fail("E0616", f"cannot load the model in {folder}: {first_line(error)}") from None
    finally:
        transformers_logging.enable_progress_bar()
    model, info = loaded
    if is_spread(model) and why_recurrent(model.config.get_text_config(decoder=True)) is not None:
        message = f"the model in {folder} is recurrent, and its states are not spread over several devices"
        raise fail("E0616", message, hint="name one device, or a smaller model")
    if place is not None and place != SPREAD and not hasattr(model, "hf_quantizer"):
        model.to(place)
    wrong = {what: sorted(map(str, info.get(f"{what}_keys") or ())) for what in ("missing", "mismatched", "unexpected")}
    if text is not None:  # what it sees and hears with is left out
        wrong["unexpected"] = [name for name in wrong["unexpected"] if not _SENSES.search(name)]
    if found := [f"{what} {some(names)}" for what, names in wrong.items() if names]:
        message = f"the weights in {folder} are not those of its config.json: {'; '.join(found)}"
        raise fail("E0530", message, hint="copy or fetch the model again")
    return model, tokenizer


def _quantisation(folder: Path, dtype: torch.dtype, asked: str | None, device: Any) -> dict[str, Any]:
    """What transformers is told of quantised weights: they are made, or read, where they are computed."""
    if asked is None and method_of(read_json(folder / "config.json").get("quantization_config")) is None:
        return {}
    place = {"device_map": {"": device or "cpu"}}
    return place if asked is None else place | {"quantization_config": _CONFIGS[asked](dtype)}


def method_of(said: Any) -> str | None:
    """What a `quantization_config`, a mapping or transformers' own object, says that weights are quantised by."""
    if said is None:
        return None
    body = said if isinstance(said, dict) else said.to_dict()
    found = body.get("quant_method")
    return str(getattr(found, "value", found) or "bitsandbytes")


def bytes_of(model: Any) -> int:
    """Bytes that a model holds, the scales of bitsandbytes' weights included, tensors that are tied once."""
    found = {}
    for one in (*model.parameters(), *model.buffers()):
        state = getattr(one, "quant_state", None)
        for part in (one, getattr(state, "absmax", None), getattr(one, "SCB", None)):
            if isinstance(part, torch.Tensor):
                found[part.data_ptr()] = part.numel() * part.element_size()
    return sum(found.values())


def _bitsandbytes(dtype: torch.dtype, **said: Any) -> Any:
    from transformers import BitsAndBytesConfig

    # It would say in every pass that int8 computes in float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(**said, bnb_4bit_compute_dtype=dtype)


def _torchao(dtype: torch.dtype) -> Any:
    from torchao.quantization import Float8WeightOnlyConfig  # type: ignore[import-not-found, unused-ignore]
    from transformers import TorchAoConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


_CONFIGS: Mapping[str, Callable[[torch.dtype], Any]] = {
    "nf4": partial(_bitsandbytes, load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "int8": partial(_bitsandbytes, load_in_8bit=True),
    "float8": _torchao,
}
"""What transformers is told, by way of holding weights; each takes the dtype that is computed in."""


def no_memory(error: Exception) -> MascError | None:
    """E0702 where a library says in its own way that memory is not enough."""
    text = str(error).lower()
    if (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in text
        or (isinstance(error, RuntimeError) and "out of memory" in text)
    ):
        return fail("E0702", "there is not enough memory for the model", hint="a smaller model, or `dtype bfloat16`")
    return None


def _text_part(folder: Path, **asked: Any) -> Any:
    """The configuration of the text model within one that also sees or hears; None: it is a text model itself. Whether
    the output embedding is tied to the input's is said by what weights there are: the two configurations often
    disagree."""
    if not isinstance(read_json(folder / "config.json").get("text_config"), dict):
        return None
    config: Any = AutoConfig.from_pretrained(folder, **asked).get_text_config(decoder=True)
    config.tie_word_embeddings = not any(name.endswith("lm_head.weight") for name in read_headers(folder)[0] or ())
    return config
