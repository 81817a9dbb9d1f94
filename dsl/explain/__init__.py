"""What each code means: `masc explain E0103`.

The texts are in the Markdown files of this folder, one section a code:

    ## E0103: Unexpected token
    Prose.
    ```mas wrong
    ...
    ```
    ```mas right
    ...
    ```

An example that needs another file has that in a block of its own, with its name in place of wrong or right:

    ```mas roles.mas
    ...
    ```

The tests compile each wrong example and expect its code, and each right one and expect nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_SECTION = re.compile(r"^## ([EWI]\d{4}): (.+)$", re.MULTILINE)
_EXAMPLE = re.compile(r"^```(\w+) (wrong|right|[\w.]+\.\w+)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One code: its prose, and a wrong and a right example where it has them. `language` is theirs: mas, yaml or sh;
    `files`: names and texts of the files that they import."""

    code: str
    title: str
    text: str
    wrong: str | None
    right: str | None
    language: str = "mas"
    files: tuple[tuple[str, str], ...] = ()


@cache
def codes() -> dict[str, Entry]:
    """All codes, in order."""
    pages = (page for page in files(__name__).iterdir() if page.name.endswith(".md"))
    entries = [entry for page in pages for entry in _entries(page.read_text(encoding="utf-8"))]
    return {entry.code: entry for entry in sorted(entries, key=lambda entry: entry.code[1:])}


def explain(code: str) -> str | None:
    """The page for a code, as text to print; None if there is no such code."""
    entry = codes().get(code.upper())
    if not entry:
        return None
    paragraphs = [f"{entry.code}: {entry.title}", entry.text]
    files = [(f"With `{name}`:", text) for name, text in entry.files]
    for heading, example in (("Wrong:", entry.wrong), ("Right:", entry.right), *files):
        if example is not None:
            paragraphs += [heading, "\n".join(f"    {line}".rstrip() for line in example.splitlines())]
    return "\n\n".join(paragraphs) + "\n"


def _entries(page: str) -> list[Entry]:
    sections = list(_SECTION.finditer(page))
    ends = [section.start() for section in sections[1:]] + [len(page)]
    entries = []
    for section, end in zip(sections, ends, strict=True):
        body = page[section.end() : end]
        examples = {kind: (language, text) for language, kind, text in _EXAMPLE.findall(body)}
        (language, wrong), (_, right) = (examples.get(kind, (None, None)) for kind in ("wrong", "right"))
        text = _EXAMPLE.sub("", body).strip()
        files = tuple((name, example) for name, (_, example) in examples.items() if name not in ("wrong", "right"))
        entries.append(Entry(section[1], section[2].strip(), text, wrong, right, language or "mas", files))
    return entries
