"""What makes a site of pages that are written for a code host.

Pages that lie outside of docs get a place in it; links to files that are no page become their text; Markdown that a
code host is lax about is written as Python's wants it. mkdocs calls the functions `on_...`.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/README.md"))
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/notebooks/tour.ipynb": "tour.md",
    **{f"examples/{name}/README.md": f"examples/{name}.md" for name in EXAMPLES},
}
"""Pages that lie outside of docs, and what they are in the site."""
BAR = r"\|"
SOURCES = "build/site-source"
CODE = ("dsl", "compiler", "backends")
SHOWN = (
    "masc.api",
    "masc.backends.torch.program.Program",
    "masc.backends.torch.engine.outputs.Output",
    "masc.backends.torch.engine.outputs.Said",
    "masc.backends.torch.engine.trace.Trace",
    "masc.backends.torch.engine.trace.TurnTrace",
    "masc.backends.torch.training.log.TrainingLog",
    "masc.backends.torch.evaluation.report.Report",
    "masc.studies.comparison_lines.Line",
    "masc.backends.torch.probing.found.Audit",
    "masc.backends.torch.probing.found.EdgeAudit",
    "masc.backends.torch.probing.found.Outcome",
    "masc.backends.diagram.Drawing",
    "masc.dsl.diagnostics.Diagnostic",
    "masc.dsl.diagnostics.MascError",
)
"""What the page of names shows, from docstrings."""
API = "# Names in Python\n\nFrom the docstrings; [From Python](python.md) says it at length.\n\n"


def on_startup(command: str, dirty: bool) -> None:
    """Lay the code out as it is imported, for mkdocstrings, which looks for it before anything else is done."""
    sources = ROOT / SOURCES / "masc"
    shutil.rmtree(sources, ignore_errors=True)
    for path, there in [(ROOT / "masc", sources), *((ROOT / name, sources / name) for name in CODE)]:
        shutil.copytree(path, there, ignore=shutil.ignore_patterns("__pycache__"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the commands."""
    listed = re.findall(r"\(([\w-]+\.md)\)", (ROOT / "docs/commands/README.md").read_text(encoding="utf-8"))
    for section in config.nav or []:
        for pages in section.values():
            if "commands/README.md" in pages:
                at = pages.index("commands/README.md")
                pages[at] = {"Commands": ["commands/README.md", *(f"commands/{name}" for name in listed)]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        made = notebook(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, place, content=made + programs(source)))
    files.append(File.generated(config, "api.md", content=API + "".join(f"::: {name}\n\n" for name in SHOWN)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    source = next((source for source, there in ELSEWHERE.items() if there == place), f"docs/{place}")
    return bars(with_links(indented(markdown), source, place))


def programs(source: str) -> str:
    """The programs of an example, to stand below its README."""
    if not source.startswith("examples/") or not source.endswith(".md"):
        return ""
    found = sorted((ROOT / source).parent.glob("*.mas"))
    return "".join(f"\n## {path.name}\n\n```\n{path.read_text(encoding='utf-8')}```\n" for path in found)


LINK_OR_CODE = re.compile(
    r"^ *```.*?^ *```$|(!?)\[((?:[^\[\]`]|`[^`]*`|\[[^\]]*\])*)\]\(([^)\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)


# -- links -------------------------------------------------------------------------------------------------------------


def with_links(text: str, source: str, place: str) -> str:
    """Links as they are from a page of the site; those to files that are no page become their text."""

    def there(found: re.Match[str]) -> str:
        picture, words, goal = found.groups()
        name, _, anchor = (goal or "").partition("#")
        if "://" in name or not name:  # of another site, of this page, or code
            return found[0]
        goal = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(source), name)))
        if goal is None:
            return words
        link = posixpath.relpath(goal, posixpath.dirname(place) or ".")
        return f"{picture}[{words}]({link}{'#' if anchor else ''}{anchor})"

    return LINK_OR_CODE.sub(there, text)


def page_of(path: str) -> str | None:
    """Where a file of the repository is in the site."""
    if example := re.match(r"examples/(\w+)(?:/[\w.]+)?$", path):
        return ELSEWHERE.get(path) or ELSEWHERE.get(f"examples/{example[1]}/README.md")
    if not path.startswith("docs/"):
        return ELSEWHERE.get(path)
    inner = path.removeprefix("docs/")
    return None if inner.endswith(".py") else inner


# -- Markdown ----------------------------------------------------------------------------------------------------------


def indented(text: str) -> str:
    """What belongs to a point of a list begins four columns in, and a list begins behind an empty line."""
    lines: list[str] = []
    deep, fenced = 0, False
    for line in text.split("\n"):
        bare = line.lstrip(" ")
        by = len(line) - len(bare)
        point = re.match(r"(?:[-*]|\d+\.) ", bare)
        if by == 0 and bare and not fenced:
            before = lines[-1] if lines else ""
            if point and before and not deep and not before.startswith(("#", "<")):
                lines.append("")
            deep = point.end() if point else deep if before else 0
        lines.append(" " * (by // deep * 4 + by % deep) + bare if deep and by and bare else line)
        fenced ^= bare.startswith("```")
    return "\n".join(lines)


def bars(text: str) -> str:
    """Within code in a table a bar is a bar, not a backslash and one."""

    def code(found: re.Match[str]) -> str:
        return f"<code>{escape(found[1]).replace(BAR, '&#124;')}</code>"

    def row(found: re.Match[str]) -> str:
        return re.sub(r"`([^`\n]*\\\|[^`\n]*)`", code, found[0])

    return re.sub(r"^\|.*$", row, text, flags=re.MULTILINE)


# -- the notebook ------------------------------------------------------------------------------------------------------


def notebook(text: str) -> str:
    """A notebook as Markdown, with the outputs that it keeps."""
    return "\n\n".join(map(_cell, json.loads(text)["cells"])) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    written = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return written
    return "\n\n".join([f"```python\n{written}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    shown = next(("".join(data[kind]) for kind in ("text/html", "image/svg+xml") if kind in data), None)
    if shown is None:
        shown = f"<pre>{escape(''.join(output.get('text') or data['text/plain']))}</pre>"
    lines = (line or " " for line in shown.split("\n"))  # an empty line would end the block
    return '<div class="output">' + "&#10;".join(lines).replace(">&#10;<", "><") + "</div>"
