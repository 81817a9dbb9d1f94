"""What there is to say about a model folder, before it is known where a program names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Span


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a folder, or that its user should know. `message` goes on after "the model `m`"."""

    code: str
    message: str
    hint: str | None = None

    def about(self, target: str, span: Span | None = None) -> Diagnostic:
        """The diagnostic about the model that a target names."""
        return Diagnostic(self.code, f"the model `{target}` {self.message}", span, hint=self.hint)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
