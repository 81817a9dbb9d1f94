"""Writes docs/errors.md: every diagnostic with its example, from the texts of `masc explain`. `make docs` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from masc.dsl.explain import Entry, codes

PAGE = Path(__file__).with_name("errors.md")
SEVERITY = {"E": "Errors", "W": "Warnings", "I": "Information"}
HEAD = """\
# What masc says

Every diagnostic has a code that stays the same; `masc explain E0201` shows these texts as well. E is an error, W a
warning, I for information. The tests compile every example. A comment beside or above what a warning or an information
is about silences it: `# masc: allow W0201`, with a reason after a colon if you like (see [W0208](#w0208)).

`masc check --format json` and `--format sarif` say the same to programs.

(`make docs` writes this page from `dsl/explain/*.md`.)
"""


def page() -> str:
    """The whole page, as Markdown."""
    entries = list(codes().values())
    return "\n".join([HEAD, *_contents(entries), "", *(_section(entry) for entry in entries)])


def _contents(entries: list[Entry]) -> Iterator[str]:
    for letter, title in SEVERITY.items():
        yield f"**{title}**\n"
        for entry in entries:
            if entry.code.startswith(letter):
                yield f"- [{entry.code}](#{entry.code.lower()}) {entry.title}"
        yield ""


def _section(entry: Entry) -> str:
    parts = [f'<a id="{entry.code.lower()}"></a>\n\n## {entry.code}: {entry.title}', entry.text]
    for heading, example in (("Wrong:", entry.wrong), ("Right:", entry.right)):
        if example is not None:
            parts += [heading, f"```{entry.language}\n{example}```"]
    for name, text in entry.files:
        parts += [f"With `{name}`:", f"```mas\n{text}```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
