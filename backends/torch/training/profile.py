"""What steps of training spend their time on: a trace by torch's profiler, and a table of it by turn and kind of work.

Times are those of the processor, without what is nested in them; where there is a GPU, its time is told beside them.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, schedule
from torch.profiler import profile as profiler_of

from masc.backends.torch.engine.labels import PREFIX, label_of, parts_of
from masc.backends.torch.program import Program
from masc.backends.torch.training.disk import writing
from masc.compiler.artifact.layout import PROFILE
from masc.compiler.files.writing import replacing
from masc.dsl.diagnostics import fail

WARM_UP = 2
"""Steps before those that are profiled."""
_BACKWARD = "autograd::engine::evaluate_function"
_MOST = 60  # lines of a table
_KINDS = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass
class Spent:
    """On one kind of work, in all steps. host, device: microseconds; operations: of torch, that call no other."""

    host: float = 0.0
    device: float = 0.0
    operations: int = 0


Key = tuple[str, str]
"""Activation ("": none) and kind of work."""


def check_profile(count: int | None, left: int) -> None:
    """E0645 where so many steps cannot be profiled in those that are left, ValueError where it is no such number."""
    if count is None:
        return
    if type(count) is not int or count < 1:
        raise ValueError(f"`profile` is a number of steps, at least 1, not {count!r}")
    if count + WARM_UP > left:
        message = f"`profile` {count} takes {count + WARM_UP} steps, {WARM_UP} of them to warm up, and {left} are left"
        raise fail("E0645", message, hint="profile fewer steps, or train for more: --set steps=...")


@contextmanager
def profiling(
    program: Program, count: int | None, folder: Path | None, show: Callable[[str], None]
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Gives what each step runs within. After the warm-up and `count` steps the trace is in the folder, and the table
    is shown. None: nothing of that. E0612 or E0703 where the trace cannot be written."""
    if count is None or folder is None:
        yield nullcontext
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if program.device.type == "cuda" else [])]
    plan = schedule(wait=0, warmup=WARM_UP, active=count, repeat=1)
    running = [profiler_of(activities=activities, schedule=plan)]
    taken = 0

    @contextmanager
    def step() -> Iterator[None]:
        nonlocal taken
        taken += 1
        if not running:
            yield
            return
        with program.holding(profiled=True), label_of(True)("rest"):
            yield
            if program.device.type == "cuda":
                torch.cuda.synchronize(program.device)
        running[0].step()
        if taken == WARM_UP + count:
            events = _write(running.pop(), folder / PROFILE)  # which is then forgotten: a trace is large
            show(f"{table(spent(events), count)}\ntrace of {count} steps -> {folder / PROFILE}")

    running[0].start()
    try:
        yield step
    finally:
        for stopped in running:  # by an error: there is no trace
            stopped.stop()


def _write(profiler: profiler_of, path: Path) -> list[dict[str, Any]]:
    """The trace as Chrome and Perfetto read it, packed; returns its events."""
    with writing(f"`{path}`"), tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        data = plain.read_bytes()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(gzip.compress(data, 5))
        file.flush()
        os.fsync(file.fileno())
    events: list[dict[str, Any]] = json.loads(data)["traceEvents"]
    return events


# -- the table --------------------------------------------------------------------------------------------------------


def spent(events: Iterable[Mapping[str, Any]]) -> dict[Key, Spent]:
    """What a trace's events tell, by the innermost label. What the backward pass does belongs to the turn whose
    operation it differentiates; what it computes again is `recompute`."""
    whole = [event for event in events if event.get("ph") == "X"]
    own = sorted(
        (e for e in whole if e.get("cat") == "cpu_op" or (_labels(e) and e.get("cat") == "user_annotation")),
        key=lambda e: (e["ts"], -e["dur"]),
    )
    made: dict[int, Key] = {}
    """By sequence number, where the operation was whose gradient bears it: the last that saw that number."""
    found: dict[Key, Spent] = {}
    of: dict[int, Key] = {}
    stacks: dict[Any, list[_Open]] = {}
    main = next((e["tid"] for e in own if _labels(e)), None)
    for event in own:
        stack = stacks.setdefault(event["tid"], [])
        while stack and event["ts"] >= stack[-1].end:
            stack.pop()
        outer = stack[-1] if stack else None
        if outer is None and event["tid"] == main and not _labels(event):
            continue  # between steps
        number = event.get("args", {}).get("Sequence number", -1)
        key = ("", "backward") if outer is None else outer.key
        if _labels(event):
            turn, kind = parts_of(event["name"])
            again = outer is not None and key[1] in ("backward", "recompute")
            key = (turn, "recompute" if again else kind)
        elif event["name"].startswith(_BACKWARD):
            key = (made.get(number, ("", ""))[0], "backward")
        elif number >= 0 and key[1] != "backward":
            made[number] = key
        here = found.setdefault(key, Spent())
        here.host += event["dur"]
        if outer is not None:
            found[outer.key].host -= event["dur"]
            found[outer.key].operations -= outer.leaf
            outer.leaf = False
        elif event["tid"] != main:  # a thread of autograd's, for which the main one waits
            found.setdefault(("", "backward"), Spent()).host -= event["dur"]
        leaf = not _labels(event)
        here.operations += leaf
        stack.append(_Open(event["ts"] + event["dur"], key, leaf))
        if (called := event.get("args", {}).get("External id")) is not None:
            of[called] = key
    for event in whole:
        if event.get("cat") in _KINDS:
            key = of.get(event.get("args", {}).get("External id", -1), ("", "rest"))
            found.setdefault(key, Spent()).device += event["dur"]
    return found


@dataclass
class _Open:
    """An event within which others may be. leaf: it counts as an operation so far."""

    end: float
    key: Key
    leaf: bool


def _labels(event: Mapping[str, Any]) -> bool:
    return str(event.get("name", "")).startswith(PREFIX)


def table(found: Mapping[Key, Spent], count: int) -> str:
    """Lines: turn, kind, milliseconds and operations of one step, share; of many the dearest."""
    total = sum(each.host for each in found.values()) or 1.0
    device = any(each.device for each in found.values())
    turns = list(dict.fromkeys(turn for turn, _ in found if turn))
    rows = sorted(found.items(), key=lambda item: turns.index(item[0][0]) if item[0][0] else len(turns))
    if left := len(rows) - _MOST:
        least = sorted(rows, key=lambda item: item[1].host)[: max(0, left)]
        rows = [row for row in rows if row not in least]
        if least:
            rows.append((("", f"{len(least)} more"), _sum(each for _, each in least)))
    rows.append((("", "all"), _sum(found.values())))
    head = ("turn", "kind", "ms a step", "share", "operations a step", *(["GPU ms a step"] if device else []))
    lines = [head]
    for (turn, kind), each in rows:
        told = (f"{each.host / 1000 / count:,.1f}", f"{each.host / total:.1%}", f"{each.operations / count:,.0f}")
        lines.append((turn, kind, *told, *([f"{each.device / 1000 / count:,.1f}"] if device else [])))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [str.ljust, str.ljust, *[str.rjust] * 4][: len(head)]
    return "\n".join(
        "  ".join(put(cell, n) for put, cell, n in zip(aligned, line, widths, strict=True)) for line in lines
    )


def _sum(each: Iterable[Spent]) -> Spent:
    known = list(each)
    return Spent(sum(e.host for e in known), sum(e.device for e in known), sum(e.operations for e in known))
