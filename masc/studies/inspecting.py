"""`masc inspect`: what was found inside a team, as JSON and as a few lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from masc.terminal.finite import finite

if TYPE_CHECKING:
    from masc.backends.torch.probing.inspection import Inspection, Team


def to_json(found: Inspection, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that was found. about: where it comes from (`provenance.py`)."""
    known: dict[str, Any] = finite({**found.json(), "run": about})
    return known


def text(found: Inspection) -> str:
    """What was said, the words of latent positions, and what each edge carried."""
    teams = [("", found.team), *([] if found.text is None else [("in text: ", found.text)])]
    return "".join(f"{line}\n" for name, team in teams for line in _lines(name, team))


def _lines(name: str, team: Team) -> Iterator[str]:
    yield f"{name}{team.answer}"
    yield f"  log-likelihood {team.log_likelihood:.3f} nats"
    for one in team.activations:
        for latent in one.latents:
            for depth in latent.depths:
                words = " ".join(f"{word.text!r} {word.near:.2f}" for word in depth.words)
                yield f"  {one.activation} latent {latent.step}, layer {depth.layer}: {words}"
    for edge in team.edges:
        yield f"  {edge.sender} -> {edge.receiver} ({', '.join(edge.kinds)}) cut: {edge.change:+.3f} nats"
