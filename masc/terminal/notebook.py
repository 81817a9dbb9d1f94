"""A progress bar in a notebook: the output of a cell, shown anew in its place. Needs IPython alone, which notebooks run
on; rich's own wants ipywidgets, in the server too."""

from __future__ import annotations

import io
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

WIDE = 110
"""Characters across."""
EVERY = 0.2
"""Seconds between two pictures of it, at least."""
PAGE = '<pre style="white-space: pre; line-height: normal; overflow-x: auto">{code}</pre>'


class NotebookProgress(Progress):
    """rich's bar with its columns, drawn into one output of the cell that runs."""

    def __init__(self, *columns: str | ProgressColumn) -> None:
        console = Console(
            file=io.StringIO(), record=True, width=WIDE, force_terminal=True, force_jupyter=False, color_system="256"
        )
        super().__init__(*columns, console=console, auto_refresh=False)
        self._shown: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        from IPython.display import display

        self._shown = display(self._picture(), display_id=True)

    def stop(self) -> None:
        self._draw()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._now_and_then()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._now_and_then()

    def _now_and_then(self) -> None:
        if time.monotonic() - self._drawn >= EVERY:
            self._draw()

    def _draw(self) -> None:
        if self._shown is not None:
            self._shown.update(self._picture())
            self._drawn = time.monotonic()

    def _picture(self) -> Any:
        from IPython.display import HTML

        self.console.print(self.get_renderable())
        drawn = self.console.export_html(inline_styles=True, code_format=PAGE)
        self.console.file.seek(0)
        self.console.file.truncate()
        return HTML(drawn)
