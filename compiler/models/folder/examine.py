"""One look at a model folder before anything runs: all that is wrong with what it holds. Nothing in it is run but the
chat template, in its sandbox; no weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.language.models import METHODS
from masc.compiler.models.chat import Chat
from masc.compiler.models.facts import ModelFacts, of_text
from masc.compiler.models.folder.finding import Finding, some
from masc.compiler.models.folder.headers import read_headers
from masc.compiler.models.folder.settings import wrong_beside, wrong_settings
from masc.compiler.models.folder.templates import examine_template, read_template
from masc.compiler.models.folder.tensors import KNOWN, compare, expected
from masc.compiler.models.folder.tokens import Tokens, beyond, read_tokens, unembedded


@dataclass(frozen=True)
class Look:
    """What a folder holds. findings: what is to be said whatever the program; alone, led: why its chat template cannot
    be used for agents without, or with, a system text; unembedded: added tokens that the embedding has no row for;
    variables: what its chat template may be told (None: it has none); method: what its weights are quantised by."""

    findings: tuple[Finding, ...] = ()
    alone: str | None = None
    led: str | None = None
    unembedded: tuple[str, ...] = ()
    variables: tuple[str, ...] | None = None
    method: str | None = None


def examine(folder: Path, facts: ModelFacts) -> Look:
    """Look at a folder whose config.json could be read, and is of a supported type."""
    config = of_text(_read(folder / "config.json"))
    tokenizer = _read(folder / "tokenizer_config.json")
    method, unusable = _quantised(config)
    found = [*_unreadable(folder), *_code(config, tokenizer), *unusable, *_adapter(folder)]
    if not found:
        found += wrong_settings(config, facts) or _weights(folder, config, facts, method)
    found += wrong_beside(folder, tokenizer)
    tokens, wrong = read_tokens(folder, tokenizer)
    found += wrong
    rows = config.get("vocab_size")
    lost: list[str] = []
    if tokens is not None and isinstance(rows, int):
        found += beyond(tokens, rows)
        lost = unembedded(tokens, rows)
    chat, said = _chat(folder, tokenizer, tokens)
    found += said
    led, alone = (None, None) if chat is None else (chat.led, chat.alone)
    return Look(tuple(found), alone, led, tuple(lost), None if chat is None else chat.variables, method)


def _read(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is none (what is unreadable is told by `_unreadable`)."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _unreadable(folder: Path) -> Iterator[Finding]:
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json"):
        if not (folder / name).exists():
            continue
        try:
            found = read_json(folder / name)
        except (OSError, ValueError) as error:
            yield Finding("E0535", f"has a file that cannot be read: `{name}`: {error}")
        else:
            if not isinstance(found, dict):
                yield Finding("E0535", f"has a file that cannot be used: `{name}` holds no JSON object")


def _code(*configs: Mapping[str, Any]) -> Iterator[Finding]:
    classes = [str(name) for config in configs for name in _flat(config.get("auto_map"))]
    if classes:
        message = f"needs code of its own, which masc does not run: {some(classes)} (`auto_map`)"
        yield Finding("E0534", message, "use a model of a type that transformers itself knows")


def _flat(item: object) -> Iterator[object]:
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, list):
        for each in item:
            yield from _flat(each)
    elif item is not None:
        yield item


def _quantised(config: Mapping[str, Any]) -> tuple[str | None, list[Finding]]:
    """What its weights are quantised by, of `METHODS` (None: they are numbers), and what is wrong with that."""
    entries = ("quantization_config", "compression_config")
    settings = next((config[name] for name in entries if config.get(name) is not None), None)
    if settings == {}:
        message = "may be quantised or not: its `quantization_config` is empty"
        return None, [
            Finding("E0533", message, "take the entry out of config.json if the weights are in floating point")
        ]
    if settings is None:
        return None, []
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"  # as its first versions wrote it
    if isinstance(method, str) and method in METHODS:
        return method, []
    named = f"by `{method}`" if isinstance(method, str) else "(`quantization_config`)"
    message = f"is quantised {named}, and masc trains adapters over {', '.join(f'`{one}`' for one in METHODS)} alone"
    return None, [Finding("E0533", message, "use the model that this one was quantised from, with `load = nf4`")]


def _adapter(folder: Path) -> Iterator[Finding]:
    if (folder / "adapter_config.json").exists():
        message = "is an adapter, not a whole model: `adapter_config.json` lies in its folder"
        yield Finding("E0532", message, "name the model that it was trained on, or merge them (`merge_and_unload`)")


def _weights(folder: Path, config: Mapping[str, Any], facts: ModelFacts, method: str | None) -> Iterator[Finding]:
    if method is not None or facts.model_type not in KNOWN or isinstance(config.get("text_config"), dict):
        yield from read_headers(folder)[1]
        return
    try:
        wanted = expected(config, facts)
    except ValueError as error:
        yield Finding("E0530", f"has a config.json that does not fit any weights: {error}")
        return
    held, wrong = read_headers(folder)
    yield from wrong
    if held is not None and not wrong:
        yield from compare(held, wanted, facts)


def _chat(folder: Path, config: Mapping[str, Any], tokens: Tokens | None) -> tuple[Chat | None, list[Finding]]:
    text, wrong = read_template(folder, config)
    if text is None:
        return None, wrong
    chat, found = examine_template(text, tokens)
    return chat, [*wrong, *found]
