"""Mutants of the examples and of the corpus of wrong files, through everything that only reads.

What must hold of any text: reading and compiling it raises nothing, every place is inside the text, and diagnostics can
be shown in all their forms. Of one without errors: what `masc fmt` writes is the same tree with the same comments, it
is told the same, compiles to the same plan, and stays as it is when it is formatted again. The same of its YAML form
and of that one's way back, where YAML can say it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.dump import dump
from masc.dsl.read import read_source
from masc.dsl.render import render, to_json
from masc.dsl.rewrite import form_of, rewritten, written
from masc.dsl.sarif import to_sarif
from masc.dsl.source import Source, Span
from masc.dsl.syntax import File
from masc.dsl.tokens import FIXED
from masc.dsl.yaml_writer import in_yaml_order

ROOT = Path(__file__).resolve().parents[1]


WORDS = [
    *FIXED.values(),
    *"{}\"'\\|>&*!%@#-`~",
    '"""',
    "{{",
    "}}",
    "{x}",
    "{question}",
    "\\n",
    "\\u12",
    "\\ud83d",
    "\\ud83d\\ude00",
]
WORDS += [
    "0",
    "1",
    "-3",
    "2e-4",
    "1e999",
    "1_0",
    ".5",
    "0x10",
    "true",
    "True",
    "null",
    "~",
    "yes",
    "none",
    "all",
    "a",
    "q",
]
WORDS += [
    "kv",
    "text",
    "hidden",
    "carry = own",
    "layers = 0..1",
    "repeat 2 {",
    "}",
    "a -> b",
    "(rank = 8)",
    "é",
    "計",
    "😀",
]
WORDS += [
    "\t",
    "\r\n",
    "\r",
    "\n",
    "\n\n\n",
    "\ufeff",
    "\x00",
    "\u2028",
    "\x85",
    "\xa0",
    "# a comment\n",
    "#",
    "  # beside\n",
]


def run(count: int, seed: int) -> int:
    """Try so many mutants; print those with which something is wrong, and return how many."""
    rng = random.Random(seed)
    texts = sources()
    failed = 0
    for number in range(count):
        path, text = rng.choice(texts)
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            text = rng.choice(MUTATIONS)(rng, text)
        if (wrong := problem(Source(path, text))) is not None:
            failed += 1
            print(f"number {number} of seed {seed}, a mutant of {path}: {wrong}\n{text!r}\n")
    return failed


def sources() -> list[tuple[str, str]]:
    """Paths and texts to begin with: examples in both forms, and wrong files."""
    found = []
    for path in sorted((ROOT / "examples").rglob("*.mas")):
        text = path.read_text(encoding="utf-8")
        if ".masc" in str(path.parent):
            continue
        tree, _ = read_source(Source(str(path), text))
        assert tree is not None
        found += [(str(path), text), (str(path.with_suffix(".yaml")), written(tree, "yaml"))]
    for path in sorted((ROOT / "tests" / "corpus").iterdir()):
        if path.is_file():
            found.append((str(path), path.read_text(encoding="utf-8").partition("# told\n")[0]))
    return found


def problem(source: Source) -> str | None:
    """What does not hold of a text, or None."""
    try:
        return _problem(source)
    except Exception as error:  # whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"


def _problem(source: Source) -> str | None:
    file, found = read_source(source)
    compiled = _compile(source)
    told = [*found, *compiled.diagnostics]
    for span in [s for d in told for s in (d.span, *(label.span for label in d.labels)) if s is not None]:
        if not 0 <= span.start <= span.end <= len(span.source.text):
            return f"a place outside of the text: {span}"
    render(told, color=True).encode()
    to_json(told)
    to_sarif(told, "0")
    if file is None or errors(found):
        return None if errors(found) else "neither a tree nor an error"
    return _formatted(source, file, compiled) or _converted(source, file, compiled)


def _formatted(source: Source, file: File, before: Compilation) -> str | None:
    text = rewritten(file)
    again = Source(source.path, text)
    tree, found = read_source(again)
    if tree is None or errors(found):
        return f"fmt writes what is refused: {[d.message for d in found]}"
    expected = in_yaml_order(file) if form_of(source.path) == "yaml" else file
    if tree != expected or dump(tree, spans=False) != dump(expected, spans=False):
        return "fmt changes the tree"
    if form_of(source.path) == "mas" and comments(tree) != comments(file):
        return f"fmt changes comments: {comments(file)} to {comments(tree)}"
    if rewritten(tree) != text:
        return "fmt of fmt is not fmt"
    after = _compile(again)
    if after.plan != before.plan:
        return "fmt changes the plan"
    codes = [Counter(d.code for d in compiled.diagnostics) for compiled in (before, after)]
    return None if codes[0] == codes[1] else f"fmt changes what is told: {codes[0]} to {codes[1]}"


def _converted(source: Source, file: File, before: Compilation) -> str | None:
    """Into the other form and back."""
    path = Path(source.path)
    yaml_path, mas_path = (str(path.with_suffix(suffix)) for suffix in (".yaml", ".mas"))
    try:
        yaml = Source(yaml_path, written(file, "yaml"))
    except MascError:
        return None  # E0135: YAML cannot say it
    in_yaml, found = read_source(yaml)
    if in_yaml is None or errors(found):
        return f"its YAML is refused: {[d.message for d in found]}"
    expected = dump(in_yaml_order(file), spans=False)
    back, found = read_source(Source(mas_path, written(in_yaml, "mas")))
    if back is None or errors(found):
        return f"what comes back from YAML is refused: {[d.message for d in found]}"
    if dump(in_yaml, spans=False) != expected or dump(back, spans=False) != expected:
        return "YAML changes the tree"
    if sum(comments(back).values()) != sum(comments(file).values()):
        return "YAML loses comments"
    if before.plan is not None and _compile(yaml).plan != before.plan:
        return "YAML changes the plan"
    return None


def _compile(source: Source) -> Compilation:
    return compile_source(source, base=Path(source.path).parent)


def comments(node: object) -> Counter[str]:
    """Every comment of a tree."""
    if isinstance(node, tuple):
        return sum((comments(child) for child in node), Counter())
    if not is_dataclass(node) or isinstance(node, Span):
        return Counter()
    found: Counter[str] = Counter()
    for field in fields(node):
        value = getattr(node, field.name)
        if field.name in ("leading", "inner", "header", "trailer"):
            found.update(text for text in value if text is not None)
        elif field.name == "trailing":
            found.update([] if value is None else [value])
        elif field.name != "allows":
            found += comments(value)
    return found


# Mutations: each takes a source of chance and a text, and returns another text


def _insert(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(WORDS) + text[at:]


def _delete(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + text[at + rng.choice((1, 1, 2, 5, 20)) :]


def _exchange(rng: random.Random, text: str) -> str:
    """One word for another, from the language or from elsewhere in the text."""
    words = list(re.finditer(r"\w+|[^\w\s]+", text))
    if not words:
        return text
    old = rng.choice(words)
    new = rng.choice(WORDS) if rng.random() < 0.4 else rng.choice(words)[0]
    return text[: old.start()] + new + text[old.end() :]


def _move_lines(rng: random.Random, text: str) -> str:
    """Lines deleted, doubled, or put elsewhere."""
    lines = text.split("\n")
    start = rng.randrange(len(lines))
    some = lines[start : start + rng.randint(1, 4)]
    rest = lines[:start] + lines[start + len(some) :] if rng.random() < 0.7 else lines
    at = rng.randrange(len(rest) + 1)
    return "\n".join(rest[:at] + some * rng.randint(0, 2) + rest[at:])


def _empty_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    for _ in range(rng.randint(1, 6)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(("", "", " ", "\t", "# alone", "   # indented", "#")))
    return "\n".join(lines)


def _beside(rng: random.Random, text: str) -> str:
    """Comments at the ends of lines."""
    lines = text.split("\n")
    for at in rng.sample(range(len(lines)), min(len(lines), 3)):
        lines[at] += rng.choice(("  # beside", " #", "   ", "\t# masc: allow W0201", "\r"))
    return "\n".join(lines)


def _line_ends(rng: random.Random, text: str) -> str:
    return text.replace("\n", "\r\n") if rng.random() < 0.5 else text.replace("\r\n", "\n")


def _one_line(rng: random.Random, text: str) -> str:
    """A line joined to the next one, or broken in two."""
    ends = [found.start() for found in re.finditer(r"\n" if rng.random() < 0.5 else " ", text)]
    if not ends:
        return text
    at = rng.choice(ends)
    return text[:at] + ("\n" if text[at] == " " else " ") + text[at + 1 :]


MUTATIONS = (
    _insert,
    _delete,
    _exchange,
    _exchange,
    _move_lines,
    _empty_lines,
    _empty_lines,
    _beside,
    _line_ends,
    _one_line,
)
