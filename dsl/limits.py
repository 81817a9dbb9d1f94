"""How large a program may be: every limit on sizes, in one place (docs/language.md lists them).

They are there so that any file is checked in seconds and some hundred megabytes, or refused at once: far above what a
team of agents needs, and below what a slip, or a file made to do harm, would take.
"""

from __future__ import annotations

FILE = 4 << 20
"""Bytes of one file."""
PROGRAM = 8 << 20
"""Bytes of a file and all that it imports."""
TOKENS = 400_000
"""Words, numbers, texts and marks in one file."""
AGENTS = 10_000
"""Agents in a graph."""
EDGES = 10_000
"""Edges of a graph, every repeat unrolled."""
VIEWS = 500_000
"""Segments that all activations together see: with `carry = trace` their number grows with the square of a chain."""
ALIKE = 100
"""Diagnostics with one code that are told of one program."""
