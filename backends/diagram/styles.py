"""How each kind of line looks, in every format. Channels say it where they are declared; lines of ports are here."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.channels import CHANNELS
from masc.compiler.channels.declare import Stroke, Style

PORT = Style("port", "from an input, to an output", "solid", 1.0, 0.8, ("#999999", "#7d8594"))
_CHANNELS = [style for channel in CHANNELS.values() for style in channel.styles.values()]
STYLES: Mapping[str, Style] = {style.name: style for style in (*_CHANNELS, PORT)}
"""By name: "port" from an input or to an output, else the channel's or what it carries."""
KINDS: Mapping[str, str] = {style.name: kind for kind, c in CHANNELS.items() for style in c.styles.values()}
"""The kind of edge that is drawn so; there is none for ports."""
_ARROWS: dict[Stroke, str] = {"solid": "-->", "thick": "==>", "dotted": "-.->", "dashed": "-.->"}
_DASHES: dict[Stroke, str] = {"dotted": "2 3", "dashed": "9 4"}


def css_class(name: str) -> str:
    """What a line is called in the style sheet. Words, not `text`: that is an element of SVG."""
    return "words" if name in KINDS and CHANNELS[KINDS[name]].words else name


def mermaid_arrow(name: str) -> str:
    return _ARROWS[STYLES[name].stroke]


def mermaid_style(name: str) -> str:
    """What differs from the theme; nothing for lines without a colour of their own."""
    style = STYLES[name]
    if style.colour is None:
        return ""
    dash = f",stroke-dasharray:{_DASHES[style.stroke]}" if style.stroke in _DASHES else ""
    return f"stroke:{style.colour[0]},stroke-width:{style.width:g}px{dash}"


def dot_style(name: str) -> str:
    style = STYLES[name]
    parts = [f"style={style.stroke}"] if style.stroke in _DASHES else []
    parts += [f'color="{style.colour[0]}"'] if style.colour else []
    return ", ".join([*parts, f"penwidth={style.pen:g}"])


def css_colours() -> str:
    """The channels' colours as variables."""
    coloured = ((css_class(style.name), style.colour) for style in _CHANNELS if style.colour)
    return "\n".join(f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in coloured)


def css_lines() -> str:
    """The channels' lines, as rules."""
    found = []
    for style in _CHANNELS:
        name = css_class(style.name)
        said = [f"stroke: var(--{name});"] if style.colour else []
        said += [f"stroke-dasharray: {_DASHES[style.stroke]};"] if style.stroke in _DASHES else []
        found += [f".drawing .{name} .line {{ {' '.join(said)} }}"] if said else []
        found += [f".drawing .{name} .head {{ fill: var(--{name}); }}"] if style.colour else []
    return "\n".join(found)
