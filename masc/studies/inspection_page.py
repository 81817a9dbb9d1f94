"""What was found inside a team as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from masc.backends.diagram import page as drawing
from masc.backends.diagram.inline import inline, palette, style
from masc.backends.diagram.layout import fitted, lay_out
from masc.backends.diagram.sketch import sketch
from masc.compiler.channels import CHANNELS
from masc.dsl.diagnostics import fail
from masc.dsl.render import visible

if TYPE_CHECKING:
    from masc.backends.torch.probing.inspection import (
        Activation,
        Heat,
        Inspection,
        Latent,
        Source,
        Spoken,
        Team,
        Token,
        Word,
    )

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_READS = {"prompt": "reading its prompt", "latents": "thinking", "answer": "answering"}


def check_name(out: Path) -> None:
    """E0603 where a file is named as if it were no page."""
    if out.suffix.lower() not in (".html", ".htm"):
        hint = f"name it `{out.with_suffix('.html')}`" if out.name else "name a file"
        raise fail("E0603", f"cannot write into `{out}`: the page is HTML", hint=hint)


def page(found: Inspection) -> str:
    """The page, whole."""
    name = escape(found.graph.name)
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}, inside</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<style>{_sheet()}</style></head><body>",
            f"<h1>{name}, inside</h1>",
            *_head(found),
            *_team(found.team, "team", "The team"),
            *([] if found.text is None else _team(found.text, "text", "The same team in text")),
            "</body></html>",
            "",
        ]
    )


def _sheet() -> str:
    """The page's style, with the colours that edges have in drawings for what came over them."""
    own = resources.files(__package__).joinpath("inspection.css").read_text(encoding="utf-8")
    colours = [(look.name, look.colour) for channel in CHANNELS.values() for look in channel.styles.values()]
    came = [
        f".{name} {{ background: color-mix(in oklab, light-dark({', '.join(colour)}) 24%, transparent); }}"
        for name, colour in colours
        if colour is not None
    ]
    return "\n".join([palette(), own, *came, style()])


# -- the head ----------------------------------------------------------------------------------------------------------


def _head(found: Inspection) -> Iterator[str]:
    teams = [("team", "team", found.team)]
    teams += [] if found.text is None else [("text", "text team", found.text)]
    links = [f'<a href="#{anchor}">{label}</a>' for anchor, label, _ in teams]
    links += [f'<a href="#{_anchor("team", one)}">{escape(one.activation)}</a>' for one in found.team.activations]
    yield f"<nav>{' '.join(links)}</nav>"
    yield f'<div class="head"><figure>{_picture(found)}</figure><div>'
    yield "<h4>asked</h4><dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{_plain(text)}</dd>" for name, text in found.inputs.items())
    yield "</dl>"
    for _, label, team in teams:
        what = "told to say" if team.given else "says"
        sure = f"log-likelihood {team.log_likelihood:.3f} nats"
        yield f"<h4>the {label} {what}</h4><p>{_plain(team.answer)}</p>"
        yield f"<p class='small'>{escape(found.output)}: {sure}</p>"
        others = {name: text for name, text in team.answers.items() if name != found.output}
        yield from (f"<p class='small'>{escape(name)}: {_plain(text)}</p>" for name, text in others.items())
    yield from _edges(teams)
    yield "</div></div>"


def _picture(found: Inspection) -> str:
    """The graph, its edges as thick as what they carried for this answer."""
    most = max((-edge.change for edge in found.team.edges), default=0.0)
    weights = {(e.sender, e.receiver): max(0.0, -e.change) / most if most > 0 else 0.0 for e in found.team.edges}
    drawn = fitted(sketch(found.graph, weights or None))
    return inline(drawn, lay_out(drawn), drawing.NAMES[0])


def _edges(teams: Sequence[tuple[str, str, Team]]) -> Iterator[str]:
    """What each edge carried, of all teams beside each other."""
    if not teams[0][2].edges:
        return
    changes = [{(e.sender, e.receiver): e for e in team.edges} for _, _, team in teams]
    yield "<h4>what each edge carried</h4>"
    yield "<div class='wide'><table><tr><th>cut alone</th><th>kind</th>"
    yield "".join(f"<th class='number'>{label}</th>" for _, label, _ in teams) + "</tr>"
    for pair, edge in changes[0].items():
        cells = []
        for known in changes:
            change = known[pair].change if pair in known else None
            worse = ' class="number worse"' if change is not None and change <= -0.1 else ' class="number"'
            cells.append(f"<td{worse}>{'' if change is None else f'{change:+.3f}'}</td>")
        name = f"{escape(edge.sender)} → {escape(edge.receiver)}"
        yield f"<tr><td>{name}</td><td>{escape(', '.join(edge.kinds))}</td>{''.join(cells)}</tr>"
    yield "</table></div><p class='small'>Change of the answer's log-likelihood, nats, when this edge alone is cut: "
    yield "below 0 the edge made the answer likelier. Edges of the picture are as thick as that.</p>"


# -- a team ------------------------------------------------------------------------------------------------------------


def _team(team: Team, anchor: str, title: str) -> Iterator[str]:
    yield f'<h2 id="{anchor}">{title}</h2>'
    yield from _who(team)
    for one in team.activations:
        yield from _activation(one, anchor)


def _who(team: Team) -> Iterator[str]:
    """Who attends to whom, over all layers, in what each does last."""
    names = [one.activation for one in team.activations]
    if len(names) < 2:
        return
    yield "<h4>who attends to whom</h4><div class='wide'><table><tr><th></th>"
    yield "".join(f"<th class='number'>{escape(name)}</th>" for name in names) + "</tr>"
    for one in team.activations:
        if not one.heats:
            continue
        heat = one.heats[-1]
        shares = dict.fromkeys(names, 0.0)
        for source, share in zip(one.sources, _means(heat), strict=True):
            if source.activation in shares:
                shares[source.activation] += share
        cells = "".join(f'<td class="number cell" {_a(share)}>{_percent(share)}</td>' for share in shares.values())
        yield f"<tr><td>{escape(one.activation)} <span class='small'>{_READS[heat.queries]}</span></td>{cells}</tr>"
    yield "</table></div><p class='small'>Mean over heads, positions and layers; what arrived in the reader's prompt "
    yield "counts for its sender.</p>"


def _anchor(team: str, one: Activation) -> str:
    return escape(f"{team}-{one.activation}")


def _activation(one: Activation, team: str) -> Iterator[str]:
    last = one.start + len(one.prompt) - 1
    yield f'<article id="{_anchor(team, one)}"><h3>{escape(one.activation)}</h3>'
    yield f"<p class='small'>on {escape(one.model)}; prompt at positions {one.start} to {last}</p>"
    yield f"<h4>prompt, {len(one.prompt)} tokens</h4><div class='tokens'>{_tokens(one.prompt)}</div>"
    yield _legend(one.prompt)
    if one.latents:
        yield from _latents(one.latents)
    if one.said is not None:
        yield from _said(one.spoken)
    for heat in reversed(one.heats):
        yield from _heat(one.sources, heat, is_open=heat is one.heats[-1])
    yield "</article>"


def _tokens(tokens: Iterable[Token]) -> str:
    """Tokens between fine lines, of each colour of where they come from."""
    return "".join(
        f'<span class="{_look(token)}" title="{escape(_told(token))}">{_shown(token.text) or "▮"}</span>'
        for token in tokens
    )


def _look(token: Token) -> str:
    return escape(token.kind or ("input" if token.whose else ""))


def _told(token: Token) -> str:
    named = f", {token.whose}" if token.whose else ""
    through = f" through {token.kind}" if token.kind else ""
    return f"{'a vector' if token.id is None else f'token {token.id}'}{named}{through}"


def _legend(tokens: Iterable[Token]) -> str:
    kinds = dict.fromkeys((_look(token), token.whose, token.kind) for token in tokens if _look(token))
    if not kinds:
        return ""
    told = [
        f'<span class="{look}">&nbsp;{escape(whose or "aligned")}&nbsp;</span> {kind}' for look, whose, kind in kinds
    ]
    return f"<p class='small'>{' '.join(told)}</p>"


def _latents(latents: Sequence[Latent]) -> Iterator[str]:
    yield f"<h4>{len(latents)} latent step{'s' * (len(latents) > 1)}</h4>"
    for latent in latents:
        yield f"<p>step {latent.step} <span class='small'>position {latent.position}</span></p>"
        yield _near_to("fed", latent.fed, f"norm {latent.norm:.2f}")
        for depth in latent.depths:
            norm = f"{depth.norm:.0f}" if depth.norm >= 100 else f"{depth.norm:.3g}"
            numbers = f"entropy {depth.entropy:.2f} · norm {norm} · drift {depth.drift:.2f}"
            yield _near_to(f"layer {depth.layer}", depth.words, numbers)
    yield "<p class='small'>Fed: the tokens whose embeddings are nearest to what the step is fed (cosine); its norm is "
    yield "1 where it is as long as embeddings are. Behind a layer: what the model would say there (logit lens), the "
    yield "entropy of that in nats, the norm of the hidden state, and its drift: 1 - cosine to the position before.</p>"


def _near_to(label: str, words: Iterable[Word], numbers: str) -> str:
    told = f"<span class='small'>{label}</span><span class='words'>{_words(words)}</span>"
    return f"<div class='lens'>{told}<span class='small'>{numbers}</span></div>"


def _words(words: Iterable[Word]) -> str:
    return "".join(
        f"<span {_a(word.near)}>{_word(word.text)}<small> {_near(word.near)}</small></span>" for word in words
    )


def _word(text: str) -> str:
    """A token on its own: blanks before it are seen, too, and which blank it is where it is nothing else."""
    rest = text.lstrip(" ")
    shown = " ".join(f"U+{ord(char):04X}" for char in rest) if rest.isspace() and "\n" not in rest else _shown(rest)
    return f"<i>{'·' * (len(text) - len(rest))}</i>{shown}"


def _near(share: float) -> str:
    return f"{share:.2f}" if share >= 0.005 else f"{share:.4f}"


def _said(spoken: Sequence[Spoken]) -> Iterator[str]:
    tokens = "".join(
        f'<span class="said" {_a(1 - _share(one))} title="token {one.id}: {_share(one):.3f}">{_shown(one.text)}</span>'
        for one in spoken
    )
    yield f"<h4>says</h4><div class='tokens'>{tokens}</div><p class='small'>The redder, the less likely.</p>"
    yield "<details><summary>token by token</summary>"
    for one in spoken:
        told = f"log p {one.log_probability:.3f} · entropy {one.entropy:.2f}"
        yield f"<div class='lens'><span class='words'><span {_a(0)}>{_word(one.text)}</span></span>"
        yield f"<span class='words'>{_words(one.words)}</span><span class='small'>{told}</span></div>"
    yield "</details>"


def _share(one: Spoken) -> float:
    return math.exp(one.log_probability)


# -- attention ---------------------------------------------------------------------------------------------------------


def _heat(sources: Sequence[Source], heat: Heat, is_open: bool) -> Iterator[str]:
    """A strip of layers for each source, and the numbers in a table."""
    count = f"{heat.positions} position{'s' * (heat.positions > 1)}"
    yield f"<details{' open' * is_open}><summary>attention while {_READS[heat.queries]}, {count}</summary>"
    for i, (source, mean) in enumerate(zip(sources, _means(heat), strict=True)):
        row = [shares[i] for shares in heat.shares]
        cells = "".join(
            f'<b {_a(share**0.5)} title="layer {layer}: {_percent(share)}"></b>'
            for layer, share in zip(heat.layers, row, strict=True)
        )
        yield f"<div class='heat'><div class='name'>{_source(source)}</div><div class='strip' role='img' "
        yield f'aria-label="{escape(", ".join(map(_percent, row)))}">{cells}</div>'
        yield f"<div class='share'>{_percent(mean)}</div></div>"
    yield f"<div class='heat'><div class='axis'><span>layer {heat.layers[0]}</span>"
    yield f"<span>{heat.layers[-1]}</span></div></div>"
    yield "<details><summary>in numbers</summary><div class='wide'><table><tr><th>layer</th>"
    yield "".join(f"<th class='number'>{_source(source)}</th>" for source in sources) + "</tr>"
    for layer, shares in zip(heat.layers, heat.shares, strict=True):
        cells = "".join(f'<td class="number cell" {_a(share)}>{_percent(share)}</td>' for share in shares)
        yield f"<tr><td>{layer}</td>{cells}</tr>"
    yield "</table></div></details></details>"


def _source(source: Source) -> str:
    """What may be attended to, in words."""
    if source.part == "sink":
        return "nothing <span class='small'>attention sink</span>"
    count = f"{source.positions} position{'s' * (source.positions != 1)}"
    if not source.kind:
        return f"own {source.part} <span class='small'>{count}</span>"
    name = escape(source.activation)
    what = f"{name} in its prompt" if source.part == "arrived" else f"{name} {source.part}"
    via = escape(", ".join(source.via))
    return f"{what} <span class='small'>{count}, {escape(source.kind)} from {via}</span>"


def _means(heat: Heat) -> list[float]:
    """The share of each source, mean over layers."""
    return [sum(column) / len(heat.shares) for column in zip(*heat.shares, strict=True)]


# -- pieces ------------------------------------------------------------------------------------------------------------


def _a(share: float) -> str:
    """How strong a colour is, from 0 to 1."""
    return f'style="--a:{min(max(share, 0.0), 1.0):.3f}"'


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _plain(text: str) -> str:
    """A text as it was said, its lines kept."""
    return "<br>".join(escape(visible(line)) for line in text.split("\n")) or "<i class='quiet'>nothing</i>"


def _shown(text: str) -> str:
    """A token: ends of lines are seen, and break the line."""
    parts = text.split("\n")
    return "<i>↵</i>\n".join(escape(visible(part)) for part in parts)
