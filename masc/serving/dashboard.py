"""`masc train --dashboard`: a page on this machine alone that shows a training as it runs, from what it logs."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.backends.diagram.inline import palette
from masc.dsl.render import visible
from masc.serving.board import Board, server
from masc.serving.charts import Points, chart

if TYPE_CHECKING:
    from masc.backends.torch.training.train import Run

Lines = Sequence[Mapping[str, Any]]
"""Of `metrics.jsonl`: one for each step, and one behind it for what its evaluation found."""

PAUSE = 0.5
"""Seconds between looks at the file."""
_KNOWN = {"step", "loss", "rate", "tokens", "positions", "seconds", "grad_norm", "grad_norms", "grad_norms_by_round"}
_KNOWN |= {"gates", "eval_loss", "eval_accuracy", "eval_samples", "eval_items"}


Around = Callable[["Run"], AbstractContextManager[None]]
"""What surrounds a run once it is prepared."""


@contextmanager
def dashboard(place: socket.socket) -> Iterator[Around]:
    """Within it a page is served on a socket that listens; what it gives shows a run there as it goes. An open page
    is told the end before the server goes, and keeps it."""
    board = Board(name="masc train", status="preparing", body="")
    serving = server(board, place, page)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    try:
        yield partial(_shown, board)
    finally:
        serving.should_exit = True
        thread.join()


@contextmanager
def _shown(board: Board, run: Run) -> Iterator[None]:
    assert run.folder is not None
    steps, status = run.settings.steps, "stopped"
    board.publish(name=run.program.plan.name, status="training", body=body([], steps))
    tail, over = Tail(run.folder / "metrics.jsonl"), threading.Event()
    thread = threading.Thread(target=follow, args=(tail, board, steps, over), daemon=True)
    thread.start()
    try:
        yield
        status = "trained"
    finally:
        over.set()
        thread.join()
        board.publish(body=body(tail.read(), steps), status=status)


def follow(tail: Tail, board: Board, steps: int, over: threading.Event) -> None:
    """Put what a run logs onto the board, until it is over."""
    while not over.wait(PAUSE):
        before = len(tail.lines), tail.mark
        lines = tail.read()
        if (len(lines), tail.mark) != before:
            board.publish(body=body(lines, steps))


class Tail:
    """The lines of a file that grows; it may be cut short, or be another one, when a run begins or goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self.mark: int | None = None
        """Which file it is; None: there is none."""
        self._at = 0

    def read(self) -> list[dict[str, Any]]:
        """All lines that are whole by now."""
        try:
            with self.path.open("rb") as file:
                mark, size = _status(file.fileno())
                if (mark, size < self._at) != (self.mark, False):
                    self.lines, self.mark, self._at = [], mark, 0
                file.seek(self._at)
                whole, end, _ = file.read().rpartition(b"\n")
        except OSError:
            self.lines, self.mark, self._at = [], None, 0
            return []
        self._at += len(whole) + len(end)
        found = (_read(line) for line in whole.split(b"\n"))
        self.lines = [*self.lines, *(line for line in found if line is not None)]
        return self.lines


def _status(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_ino, status.st_size


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and type(found.get("step")) is int else None


# -- the page ----------------------------------------------------------------------------------------------------------


def page(state: Mapping[str, Any]) -> str:
    """The page, whole. It gets more of its state from where it came from."""
    script = _part("dashboard.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'"
    name = escape(state["name"])
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<style>{palette()}{_part('dashboard.css')}</style></head><body>",
            f'<header><h1 id="name">{name}</h1><span id="status">{escape(state["status"])}</span></header>',
            f'<main id="body">{state["body"]}</main>',
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def body(lines: Lines, steps: int) -> str:
    """What there is to see of a run that has logged these lines."""
    taken = [line for line in lines if "grad_norms" in line]
    tested = [line for line in lines if "grad_norms" not in line]
    if not taken:
        return "<p>No step has been taken yet.</p>"
    norms = _apart(taken, "grad_norms_by_round") or _apart(taken, "grad_norms")
    speed = [(line["step"], line["positions"] / line["seconds"]) for line in taken if _positive(line.get("seconds"))]
    more = {name: one for name, one in {**_numbers(taken), **_numbers(tested)}.items() if name not in _KNOWN}
    charts = [
        chart(
            "loss, nats a token", {"training": _line(taken, "loss"), "evaluation": _line(tested, "eval_loss")}, steps
        ),
        chart("accuracy", {"evaluation": _line(tested, "eval_accuracy")}, steps, share=True),
        chart("gradient norms, before clipping", norms, steps, log=True),
        chart("gates", _apart(taken, "gates"), steps, share=True),
        chart("rate of adapters", {"rate": _line(taken, "rate")}, steps),
        chart("positions a second", {"speed": speed}, steps),
        *(chart(name.replace("_", " "), {name: points}, steps) for name, points in more.items()),
    ]
    return f"{_now(taken, steps)}<div class='charts'>{''.join(charts)}</div>{_samples(tested)}"


def _now(taken: Lines, steps: int) -> str:
    newest = taken[-1]
    recent = [line["seconds"] for line in taken[-20:] if _positive(line.get("seconds"))]
    left = (steps - newest["step"]) * sum(recent) / len(recent) if recent else 0.0
    told = f"step {newest['step']:,} of {steps:,}, loss {_told(newest.get('loss'))}"
    return f"<p>{told}{f', about {_time(left)} left' if left else ''}</p>"


def _samples(tested: Lines) -> str:
    """Answers of the newest evaluation that has any."""
    found = next((line for line in reversed(tested) if line.get("eval_samples")), None)
    if found is None:
        return ""
    rows = "".join(
        f"<tr><td>{one['index'] + 1}</td><td>{_text(one['said'])}</td><td>{_text(one['gold'])}</td>"
        f"<td class='number'>{one['score']:.3g}</td></tr>"
        for one in found["eval_samples"]
    )
    head = "<tr><th>row</th><th>said</th><th>gold</th><th class='number'>score</th></tr>"
    return f"<h2>answers after step {found['step']:,}</h2><div class='wide'><table>{head}{rows}</table></div>"


def _line(lines: Lines, name: str) -> Points:
    return [(line["step"], float(line[name])) for line in lines if _is_number(line.get(name))]


def _apart(lines: Lines, group: str) -> dict[str, Points]:
    """What is logged by agent or edge."""
    names = dict.fromkeys(name for line in lines for name in line.get(group) or {})
    inner = [{"step": line["step"], **(line.get(group) or {})} for line in lines]
    return {name: _line(inner, name) for name in names}


def _numbers(lines: Lines) -> dict[str, Points]:
    names = dict.fromkeys(name for line in lines for name, value in line.items() if _is_number(value))
    return {name: _line(lines, name) for name in names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _told(value: Any) -> str:
    return f"{value:.4f}" if _is_number(value) and math.isfinite(value) else "no number"


def _time(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{round(seconds)} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"


def _text(text: str) -> str:
    return "<br>".join(escape(visible(line)) for line in str(text)[:600].split("\n"))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
