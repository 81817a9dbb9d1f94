"""`masc run`: one answer as it is decoded, or a file of answers that survives being stopped."""

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
    from masc.backends.torch.program import Program

Row = Mapping[str, Any]


def stream(program: Program, row: Row, decoding: Decoding, engine: Engine = "fast") -> None:
    """Print one answer as it is decoded."""
    for piece in program.generate([row], stream=True, engine=engine, **asdict(decoding)):
        print(piece, end="", flush=True)
    print()


def show(program: Program, row: Row, decoding: Decoding) -> None:
    """Print, turn by turn, the prompt that each agent reads, as it is rendered, and what it says to others; then the
    answer."""
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
    """E0612 where answers cannot be written: before a model is loaded."""
    check_file(out)
    if out.exists():
        raise fail("E0612", f"`{out}` is there already", hint="delete it, or choose another --out")
    check_file(partial_of(out))


def run_rows(
    program: Program,
    rows: Sequence[Row],
    read: Sequence[Row],
    out: Path,
    batch: int,
    decoding: Decoding,
    engine: Engine = "fast",
) -> None:
    """Answer every row. Answers are appended to `OUT.partial` as they are there, so that a run that was stopped goes on
    where it was; at the end they are written to `out` in the order of the rows, each row with all of its columns. read:
    the rows as the graph reads them."""
    from masc.backends.torch.evaluation.evaluate import say_all

    outputs = program.plan.outputs
    apart = _apart(rows, outputs)
    for name, other in apart.items():
        say(f"the rows have a column `{name}` as well: it is `{other}` in {out}")
    partial = partial_of(out)
    done, cut_off = readpartial_of(partial, mark_of(program, rows, read, decoding, engine))
    with partial.open("a", encoding="utf-8") as file, bar() as progress:
        task = progress.add_task("run", total=len(rows), completed=len(done))
        for i, said in say_all(program, read, batch, frozenset(done), decoding=decoding, engine=engine):
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
    """Columns that are called like an output, and what they are called beside it: neither is lost."""
    columns = {name for row in rows for name in row}
    found: dict[str, str] = {}
    for name in (name for name in outputs if name in columns):
        other = f"{name}_in_data"
        while other in columns or other in outputs:
            other += "_"
        found[name] = other
    return found


def _line(row: Row) -> str:
    """A row as a line of JSON. Columns that nobody reads may hold what JSON has no word for: no number becomes null,
    anything else its text."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(finite(row), ensure_ascii=False, default=str) + "\n"


def partial_of(out: Path) -> Path:
    """Where answers are kept until all are there."""
    return out.with_name(out.name + ".partial")


def mark_of(
    program: Program, rows: Sequence[Row], read: Sequence[Row], decoding: Decoding, engine: Engine = "fast"
) -> str:
    """A hash of all that the answers depend on: the rows, what the graph reads of them, the plan (with what is cut, set
    or made text), how it decodes, the base models, the weights as they are (trained, of a checkpoint or fresh), how
    numbers are computed and by which versions."""
    digest = hashlib.sha256()
    known = {
        "rows": [[dict(row) for row in rows], [dict(row) for row in read]],
        "plan": fingerprint(program.plan, decoding=True),
        "decoding": asdict(decoding),
        "engine": engine,
        "models": [[record.name, record.target, record.hash] for record in program.model_records()],
        "numbers": [*(str(program.base(agent.name).model.dtype) for agent in program.plan.agents), program.device.type],
        "versions": versions(),
    }
    digest.update(json.dumps(known, sort_keys=True, default=str).encode())
    for name, tensor in program.state_dict(trainable_only=True).items():
        digest.update(f"{name} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Any) -> bytes:
    import torch

    # By way of uint8, for numpy knows no bfloat16.
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return bytes(flat.numpy().tobytes())


def readpartial_of(partial: Path, mark: str) -> tuple[dict[int, dict[str, str]], int]:
    """The answers of a run that was stopped, and how many of them were cut off; afterwards the file holds just them.
    E0612 if that run was another one."""
    entries = list(_whole_lines(partial.read_bytes())) if partial.exists() else []
    if entries and entries[0] != {"of": mark}:
        raise fail(
            "E0612",
            f"`{partial}` is of other rows, another graph, other weights or other options",
            hint="delete it, or choose another --out",
        )
    kept = [entry for entry in entries[1:] if set(entry) == {"index", "said", "cut"}]
    lines = [{"of": mark}, *kept]
    atomic_write(partial, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {entry["index"]: entry["said"] for entry in kept}, sum(bool(entry["cut"]) for entry in kept)


def _whole_lines(data: bytes) -> Iterator[dict[str, Any]]:
    """Up to the line that was being written: it has no end, or (after a crash of the machine) is no JSON. It may be cut
    inside a character, so lines are decoded one by one."""
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line.decode("utf-8"))
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        yield entry
