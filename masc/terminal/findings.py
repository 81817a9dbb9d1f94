"""What `masc.check` returns."""

from __future__ import annotations

from html import escape

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.render import render


class Findings(list[Diagnostic]):
    """Diagnostics; printed, or shown in a notebook, they read as the command tells them."""

    def __str__(self) -> str:
        return render(self)

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre">{escape(render(self)) or "nothing to remark"}</pre>'
