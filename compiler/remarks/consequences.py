"""One mistake, one message: what may only follow from something that could not be read is not told yet.

The reader goes on after a syntax error, and so do the passes, for there may be other mistakes in the file. But an agent
whose line was not understood is missing in the graph; that is no second mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Span
from masc.dsl.syntax import Block, File

_NAMES = {"E0201", "E0207"}
"""Names that are not declared: perhaps they are, in what could not be read."""
_MISSING = {"E0301", "E0305", "E0306", "E0309", "E0310", "E0311", "E0313", "E0321", "E0323", "E0324", "E0325", "E0327"}
_MISSING |= {"E0406"}
"""What is said where something else is not there: an edge, a line of an agent."""


def independent(files: Iterable[File], found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Without the warnings, the complaints about what is missing, and those on the line of a syntax error, about a file
    with syntax errors. A misspelt name is told, if all that declares names was read, and there is one like it."""
    found = list(found)
    syntax = [d.span for d in found if "E0101" <= d.code < "E0130" and d.span is not None]
    if not syntax:
        return found
    blocks = {file.span.source: [d.span for d in file.declarations if isinstance(d, Block)] for file in files}
    broken = {span.source for span in syntax}
    nameless = {span.source for span in syntax if not _inside(span, blocks.get(span.source, []))}
    lines = {(span.source, span.line) for span in syntax}

    def follows(d: Diagnostic) -> bool:
        if d.span is None or d.span.source not in broken or d.code < "E0130":
            return False
        if d.code in _NAMES and (d.span.source in nameless or not (d.hint or "").startswith("did you mean")):
            return True
        return d.severity != "error" or d.code in _MISSING or (d.span.source, d.span.line) in lines

    return [d for d in found if not follows(d)]


def _inside(span: Span, blocks: Iterable[Span]) -> bool:
    """Whether something stands in a block below its first line, so that the block is there, with its name."""
    return any(block.start < span.start <= block.end and span.line > block.line for block in blocks)
