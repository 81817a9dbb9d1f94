"""`masc run`: one answer as it is decoded, or a file of answers that can be continued after a stop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.analysis.decoding import Decoding, Engine
from masc.compiler.artifact import atomic_write, versions
from masc.compiler.files.writing import check_file
from masc.compiler.forms.essence import fingerprint
from masc.dsl.diagnostics import fail
from masc.terminal.console import bar, say
from masc.terminal.finite import finite

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.answering import Answering
    from masc.backends.torch.program import Program

Row = Mapping[str, Any]


def stream(program: Program, row: Row, decoding: Decoding, engine: Engine = "fast") -> None:
    """Print one answer as it is decoded."""
    for piece in program.generate([row], stream=True, engine=engine, **asdict(decoding)):
        print(piece, end="", flush=True)
    print()


def show(program: Program, row: Row, decoding: Decoding) -> None:
    """Print for each turn the rendered prompt and what the agent says to others; then the answers."""
    trace = program.trace([row], decoding=decoding)
    giving = {turn.activation for turn in program.plan.answering if turn.answer is not None and turn.answer.output}
    for name, turn in trace.turns.items():
        steps = f", then {turn.latent} latent step{'s' * (turn.latent != 1)}" if turn.latent else ""
        first = int(turn.positions[0, 0])
        print(f"--- {name} reads {len(turn.ids[0])} tokens from position {first} on{steps}")
        print(turn.prompts[0])
        if turn.texts is not None and name not in giving:
            print(f"--- {name} says")
            print(turn.texts[0])
    for name, text in trace.answers[0].items():
        print(f"--- {name}")
        print(text)


def check_out(out: Path) -> None:
    """E0612 if answers cannot be written there. Asked before a model is loaded."""
    check_file(out)
    if out.exists():
        raise fail("E0612", f"`{out}` is there already", hint="delete it, or choose another --out")
    check_file(partial_of(out))


def run_rows(
    answering: Answering,
    rows: Sequence[Row],
    read: Sequence[Row],
    out: Path,
    batch: int,
    decoding: Decoding,
    engine: Engine = "fast",
) -> None:
    """Answer every row. Answers are appended to `OUT.partial` as they come, so that a stopped run can go on. At the end
    they are written to `out` in the order of the rows; each row keeps all its columns. read: the same rows with columns
    named as the graph names them."""
    outputs = answering.plan.outputs
    apart = _apart(rows, outputs)
    for name, other in apart.items():
        say(f"the rows have a column `{name}` too: in {out} it is called `{other}`")
    partial = partial_of(out)
    done, cut_off = read_partial(partial, run_key(answering, rows, read, decoding, engine))
    order = answering.order(read, [i for i in range(len(rows)) if i not in done])
    with partial.open("a", encoding="utf-8") as file, bar() as progress:
        task = progress.add_task("run", total=len(rows), completed=len(done))
        for i, _, said in answering.said(read, [(i, 0) for i in order], batch, decoding, engine):
            done[i] = {name: said[name].text for name in outputs}
            cut = any(said[name].cut for name in outputs)
            cut_off += cut
            file.write(json.dumps({"index": i, "said": done[i], "cut": cut}, ensure_ascii=False) + "\n")
            file.flush()
            progress.advance(task)
    kept = [{apart.get(name, name): value for name, value in row.items()} for row in rows]
    lines = [_line(row | done[i]) for i, row in enumerate(kept)]
    atomic_write(out, "".join(lines))
    partial.unlink()
    say(f"{len(rows)} answers -> {out}")
    if cut_off:
        say(f"{cut_off} of them were cut off, by `max_tokens` or at the model's last position")


def _apart(rows: Sequence[Row], outputs: Sequence[str]) -> dict[str, str]:
    """New names for columns that are called like an output, so that neither is lost."""
    columns = {name for row in rows for name in row}
    found: dict[str, str] = {}
    for name in (name for name in outputs if name in columns):
        other = f"{name}_in_data"
        while other in columns or other in outputs:
            other += "_"
        found[name] = other
    return found


def _line(row: Row) -> str:
    """A row as a line of JSON. Unused columns may hold values that JSON cannot express: NaN and infinities become null,
    anything else becomes text."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(finite(row), ensure_ascii=False, default=str) + "\n"


def partial_of(out: Path) -> Path:
    """The file that holds the answers until all rows are answered."""
    return out.with_name(out.name + ".partial")


def run_key(
    answering: Answering, rows: Sequence[Row], read: Sequence[Row], decoding: Decoding, engine: Engine = "fast"
) -> str:
    """A hash of everything that the answers depend on: the rows and what the graph reads of them, the plan (with
    `--set`, `--cut` and `--channel`), decoding, base models, weights, engine, dtype, device and versions of
    libraries."""
    numbers = answering.numbers
    known = {
        "rows": [[dict(row) for row in rows], [dict(row) for row in read]],
        "plan": fingerprint(answering.plan, decoding=True),
        "decoding": asdict(decoding),
        "engine": engine,
        "models": [[record.name, record.target, record.hash] for record in answering.model_records()],
        "numbers": [*numbers.dtypes, numbers.device.partition(":")[0]],
        "versions": versions(),
        "weights": answering.digest(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def read_partial(partial: Path, mark: str) -> tuple[dict[int, dict[str, str]], int]:
    """The answers of a stopped run by row, and how many of them were cut off. The file is then rewritten to hold only
    them. E0612 if that was another run."""
    entries = list(_whole_lines(partial.read_bytes())) if partial.exists() else []
    if entries and entries[0] != {"of": mark}:
        raise fail(
            "E0612",
            f"`{partial}` was made from other rows, another graph, other weights or other options",
            hint="delete it, or choose another --out",
        )
    kept = [entry for entry in entries[1:] if set(entry) == {"index", "said", "cut"}]
    lines = [{"of": mark}, *kept]
    atomic_write(partial, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {entry["index"]: entry["said"] for entry in kept}, sum(bool(entry["cut"]) for entry in kept)


def _whole_lines(data: bytes) -> Iterator[dict[str, Any]]:
    """The entries before the line that was being written: that one has no line end or, after a crash, is no JSON. It
    may end inside a character, so lines are decoded one by one."""
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line.decode("utf-8"))
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        yield entry
