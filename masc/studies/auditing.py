"""`masc audit`: what each edge of a trained team carries, as a table and as JSON for `masc draw --audit`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.files.reading import MOST_JSON, parse_json, read_regular
from masc.compiler.ir.plan import agent_of
from masc.dsl.diagnostics import fail
from masc.session.programs import Found, compile_remembering
from masc.terminal.finite import finite

if TYPE_CHECKING:
    from masc.backends.scoring.registry import Function
    from masc.backends.torch.probing.found import Audit
    from masc.backends.torch.program import Program


def audit_of(
    found: Found,
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    scorer: str | Function,
    *,
    batch: int = 16,
    watched: int = 16,
    output: str | None = None,
    decoding: Decoding = AS_WRITTEN,
    tick: Callable[[str], None] | None = None,
) -> Audit:
    """Audit every edge of a program. E0605 for fewer than two rows."""
    from masc.backends.torch.probing.audit import audit

    edges = []
    for sender, receiver, kinds in audited(found):
        cut = compile_remembering(found.path, found.artifact.layout.root, {}, ((sender, receiver),)).require()
        edges.append((sender, receiver, kinds, cut))
    return audit(
        program, edges, rows, scorer, batch=batch, watched=watched, output=output, decoding=decoding, tick=tick
    )


def measurements(found: Found, program: Program) -> int:
    """How many measurements an audit of it takes: of the team as it is, and of each edge."""
    from masc.backends.torch.probing.audit import conditions

    return 1 + sum(1 + len(conditions(program, *edge)) for edge in audited(found))


def audited(found: Found) -> list[tuple[str, str, tuple[str, ...]]]:
    """The edges to audit: sender, receiver and kinds of each. E0611 for a graph without edges."""
    from masc.backends.torch.probing.audit import edges_of

    graph = found.compilation.graph
    assert graph is not None
    edges = edges_of(found.plan, [(agent_of(e.sender), agent_of(e.receiver), e.kind) for e in graph.edges])
    if not edges:
        raise fail("E0611", "the graph has no edges to audit")
    return edges


def to_json(audit: Audit, about: Mapping[str, Any]) -> str:
    """The audit as JSON. about: where the numbers come from (`provenance.py`)."""
    return json.dumps(finite({**asdict(audit), "run": about}), indent=1, ensure_ascii=False) + "\n"


def weights_of(audit: Audit | Path) -> dict[tuple[str, str], float]:
    """For each edge in an audit, or in an `audit.json`, how much it carries, relative to the edge that carries most (0
    to 1). E0601 if the file cannot be read, E0602 if it is no audit."""
    if not isinstance(audit, Path):
        return _shares({(edge.sender, edge.receiver): max(0.0, edge.carries) for edge in audit.edges})
    path = audit
    try:
        data = read_regular(path, MOST_JSON)
    except OSError as error:
        raise fail("E0601", f"cannot read {path}: {error.strerror or error}") from None
    try:
        edges = parse_json(data)["edges"]
        carried = {(str(e["sender"]), str(e["receiver"])): max(0.0, float(e["carries"])) for e in edges}
    except (ValueError, KeyError, TypeError):
        raise fail("E0602", f"{path} is not what `masc audit -o` writes") from None
    return _shares(carried)


def _shares(carried: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    most = max(carried.values(), default=0.0)
    return {pair: share / most if most else 0.0 for pair, share in carried.items()}


def track(audit: Audit, found: Found, program: Program, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Send an audit to trackers, beside what they know of the training: what each edge carries as numbers, the table,
    and the graph with edges as thick as what they carry."""
    from masc.backends.torch.probing.found import COLUMNS, rows
    from masc.backends.torch.training.trackers import Trackers

    with Trackers(names, found.artifact.layout.root, about, program) as tracked:
        numbers = {"audit/accuracy": audit.accuracy, "audit/log_likelihood": audit.log_likelihood}
        tracked.send(numbers | {f"audit/carries/{e.sender} -> {e.receiver}": e.carries for e in audit.edges}, 0)
        tracked.tell("audit/edges", COLUMNS, rows(audit))
        tracked.draw(0, "audit/graph", weights_of(audit))
