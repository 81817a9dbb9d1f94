"""`masc run`: one answer as it is decoded, or a file of answers that survives being stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.artifact import atomic_write
from masc.compiler.files import check_file
from masc.console import bar, say
from masc.dsl.diagnostics import fail

if TYPE_CHECKING:
    from masc.backends.torch.program import Program

Row = Mapping[str, Any]


def stream(program: Program, row: Row) -> None:
    """Print one answer as it is decoded."""
    for piece in program.generate([row], stream=True):
        print(piece, end="", flush=True)
    print()


def check_out(out: Path) -> None:
    """E0612 where answers cannot be written: before a model is loaded."""
    check_file(out)
    if out.exists():
        raise fail("E0612", f"`{out}` is there already", hint="delete it, or choose another --out")
    check_file(_partial(out))


def run_rows(program: Program, rows: Sequence[Row], inputs: Sequence[str], out: Path, batch: int, about: str) -> None:
    """Answer every row. Answers are appended to `OUT.partial` batch by batch, so that a run that was stopped goes on
    where it was; at the end they are written to `out` in the order of the rows. about: what else decides the answers.
    """
    from masc.backends.torch.evaluate import say_all

    partial = _partial(out)
    done = read_partial(partial, mark_of(program, rows, about))
    with partial.open("a", encoding="utf-8") as file, bar() as progress:
        task = progress.add_task("run", total=len(rows), completed=len(done))
        for i, said in say_all(program, rows, batch, frozenset(done)):
            done[i] = {name: said[name].text for name in program.plan.outputs}
            file.write(json.dumps({"index": i, "said": done[i]}, ensure_ascii=False) + "\n")
            file.flush()
            progress.advance(task)
    lines = [
        json.dumps({**{name: row[name] for name in inputs}, **done[i]}, ensure_ascii=False) + "\n"
        for i, row in enumerate(rows)
    ]
    atomic_write(out, "".join(lines))
    partial.unlink()
    say(f"{len(rows)} answers -> {out}")


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def mark_of(program: Program, rows: Sequence[Row], about: str) -> str:
    """A hash of all that the answers depend on: the rows, the graph, the base models, the trained weights."""
    digest = hashlib.sha256()
    records = [[record.name, record.target, record.hash] for record in program.model_records()]
    known = [list(map(dict, rows)), program.plan.fingerprint(decoding=True), records, about]
    digest.update(json.dumps(known, sort_keys=True).encode())
    for name, tensor in program.state_dict(trainable_only=True).items():
        digest.update(f"{name} {tensor.dtype}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Any) -> bytes:
    import torch

    # By way of uint8, for numpy knows no bfloat16.
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return bytes(flat.numpy().tobytes())


def read_partial(partial: Path, mark: str) -> dict[int, dict[str, str]]:
    """The answers of a run that was stopped; afterwards the file holds just them. E0612 if that run was another one."""
    entries = list(_whole_lines(partial.read_bytes())) if partial.exists() else []
    if entries and entries[0] != {"of": mark}:
        raise fail(
            "E0612",
            f"`{partial}` is of other rows, another graph, other weights or other options",
            hint="delete it, or choose another --out",
        )
    kept = [entry for entry in entries[1:] if set(entry) == {"index", "said"}]
    lines = [{"of": mark}, *kept]
    atomic_write(partial, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {entry["index"]: entry["said"] for entry in kept}


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
