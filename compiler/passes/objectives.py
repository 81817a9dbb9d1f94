"""What an objective asks of a graph. A reward is of the one thing that a team says in the end."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.ir.resolved import Resolved
from masc.compiler.language.objectives import Grpo
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Span


def objectives(resolved: Resolved, file: syntax.File) -> list[Diagnostic]:
    """E0408 for what a reward does not train, W0315 for channels that it finds closed."""
    return list(_of_reward(resolved, file)) if isinstance(resolved.train.objective, Grpo) else []


def _of_reward(resolved: Resolved, file: syntax.File) -> Iterator[Diagnostic]:
    entries = [entry for block in file.declarations if isinstance(block, syntax.Train) for entry in block.entries]
    place = next((e.value.span for e in entries if isinstance(e, syntax.Setting) and e.name.text == "objective"), None)
    told = "train on answers: `objective supervised`"
    if len(resolved.outputs) > 1:
        message = f"a reward is of one output, and `{resolved.name}` has {len(resolved.outputs)}"
        yield Diagnostic("E0408", message, place or resolved.span, hint=f"leave one output, or {told}")
    outputs = {output.text for output in resolved.outputs}
    for name, _ in resolved.labels:
        if name not in outputs:
            message = f"with a reward no column supervises what agents say, as one does `{name}`"
            hint = f"take `{name} <- ...` out, or {told}"
            yield Diagnostic("E0408", message, _supervising(entries, name) or place, hint=hint)
    for link in resolved.links:
        if link.edge.gate is not None and link.says("gate"):
            message = "gates are judged by the loss of told answers: a reward trains none"
            yield Diagnostic("E0408", message, link.option("gate"), hint=f"take the gate out, or {told}")
        if link.edge.open is not None and link.says("open"):
            message = "`open` does nothing where a reward trains: answers are sampled with the channel closed"
            hint = "train on answers first, and on the reward from there (`masc train --init-from`)"
            yield Diagnostic("W0315", message, link.option("open"), hint=hint)


def _supervising(entries: list[syntax.Supervise | syntax.Setting], name: str) -> Span | None:
    return next((e.span for e in entries if isinstance(e, syntax.Supervise) and e.output.text == name), None)
