"""GGUF files as folders that masc reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masc.dsl.diagnostics import fail, first_line

_MAGIC = b"GGUF"


def convert(file: Path, folder: Path, progress: bool = True) -> None:
    """Write what a GGUF file holds into a folder: its weights as numbers in bfloat16, its tokenizer and chat template.

    Each weight is the number that it stands for, rounded once. E0543 where the file is none that transformers reads.
    """
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(_MAGIC))
    except OSError as error:
        raise fail("E0543", f"cannot read {file}: {error.strerror}") from None
    if magic != _MAGIC:
        raise fail("E0543", f"{file} is no GGUF file", hint="one begins with the letters GGUF")
    try:
        write(file, folder, None, progress)
    except Exception as error:  # what is wrong with a file shows in many ways
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not transformers' word for a file
            raise
        why = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        hint = "transformers reads some types of models from GGUF; else take the model that the file was made from"
        raise fail("E0543", f"cannot convert {file}: {why}", hint=hint) from error


def write(file: Path, folder: Path, template: str | None, progress: bool) -> None:
    """The same of a file that is known to be sound. template: the chat template, where the file holds none."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    if not progress:
        logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            trust_remote_code=False,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        vars(model.config).pop("_model_name_or_path", None)  # the name of a training run, from the GGUF's metadata
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        tokenizer.chat_template = tokenizer.chat_template or template
        tokenizer.save_pretrained(folder)
    finally:
        logging.enable_progress_bar()
