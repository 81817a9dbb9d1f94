"""Which chat template a model folder has, by the files that transformers reads and in their order:
`chat_template.jinja` (more of them in `additional_chat_templates/`), else the `chat_template` of
`tokenizer_config.json`; then that of `chat_template.json`, where transformers looks for models that also read images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json, read_regular
from masc.compiler.models.chat import TODAY, Chat, ChatTemplate, look
from masc.compiler.models.folder.finding import Finding, some
from masc.compiler.models.folder.tokens import Tokens

FILE, FOLDER, LEGACY = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
_MOST = 1 << 22
"""Bytes of the longest template that is read."""


def read_template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, list[Finding]]:
    """The chat template of a folder (None: it has none, or none that can be read), and what is wrong. config: its
    `tokenizer_config.json`."""
    named: dict[str, object] = {}
    try:
        if (folder / FILE).exists():
            named["default"] = read_regular(folder / FILE, _MOST).decode("utf-8")
        if (folder / FOLDER).is_dir():
            for path in sorted((folder / FOLDER).glob("*.jinja")):
                named[path.name.removesuffix(".jinja")] = read_regular(path, _MOST).decode("utf-8")
        legacy = read_json(folder / LEGACY)["chat_template"] if (folder / LEGACY).exists() else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return None, [Finding("E0537", f"has a chat template that cannot be read: {error}")]
    given = named or config.get("chat_template") or legacy
    if isinstance(given, list):
        try:
            given = {str(each["name"]): each["template"] for each in given}
        except (TypeError, KeyError):
            given = {"": None}
    if given is None:
        return None, []
    if isinstance(given, dict):
        if "default" not in given:
            message = f"has several chat templates and none is the default: {some(sorted(map(str, given)))}"
            return None, [Finding("E0537", message, f"write the one that is meant into `{FILE}`")]
        given = given["default"]
    if not isinstance(given, str):
        return None, [Finding("E0537", "has a chat template that is not a text", f"write it into `{FILE}`")]
    if any("\ud800" <= char <= "\udfff" for char in given):
        return None, [Finding("E0537", "has a chat template that holds half a character (a lone surrogate)")]
    return given or None, []


def examine_template(text: str, tokens: Tokens | None) -> tuple[Chat, Iterator[Finding]]:
    """What a template makes of prompts, and what there is to say about it for every agent."""
    chat = look(ChatTemplate(text, {} if tokens is None else tokens.named))
    return chat, _findings(chat, tokens)


def _findings(chat: Chat, tokens: Tokens | None) -> Iterator[Finding]:
    if chat.alone is not None and chat.led is not None:
        fix = f"correct it in its folder (`{FILE}`), or remove it: then the model gets prompts as they are written"
        yield Finding("E0537", f"cannot be used: its chat template {chat.alone}", fix)
        return
    if chat.dated:
        day = f"{TODAY.day} {TODAY:%B %Y}"
        message = (
            f"has a chat template that writes the date: for it, today is always {day}, so that prompts stay the same"
        )
        yield Finding("W0511", message, "where a prompt needs the real date, give it as an input")
    if tokens is not None and tokens.first and not chat.start.startswith(tokens.first):
        message = f"begins every text with `{tokens.first}`, but its chat template writes none: the template decides"
        yield Finding("W0512", message, f"if it was trained with it, the template should begin with `{tokens.first}`")
