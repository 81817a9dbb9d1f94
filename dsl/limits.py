"""How large a program may be: every limit on sizes, in one place (docs/language.md lists them).

They are there so that any file is checked in seconds and some hundred megabytes, or refused at once: far above what a
team of agents needs, and below what a slip, or a file made to do harm, would take.
"""

from __future__ import annotations

FILE = 2 << 20
"""Bytes of one file."""
PROGRAM = 8 << 20
"""Bytes of a file and all that it imports."""
TOKENS = 400_000
"""Words, numbers, texts and marks in one file."""
EDGES = 10_000
"""Edges of a graph, every repeat unrolled."""
VIEWS = 250_000
"""Segments that all edges together carry: with `carry = trace` their number grows with the square of a chain."""
REACHES = 250_000
"""Segments that all losses together reach back through."""
PROMPT = 2 << 20
"""Characters of one prompt of an agent, values of a template's fields put in."""
PROMPTS = 32 << 20
"""Characters of the prompts of all agents that a graph makes of templates."""
FAULTS = 1000
"""Faults of one kind of texts (stray marks, escapes that are none) that are looked at in one file."""
ALIKE = 100
"""Diagnostics with one code that are told of one program."""
SHOWN = 10
"""Names or places that one diagnostic tells of many."""
