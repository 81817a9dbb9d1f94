"""The channels: what can cross an edge. Each is declared in a module of its own; all else asks these declarations."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.channels import fuse, hidden, kv, text
from masc.compiler.channels.declare import Channel
from masc.compiler.ir.arrival import Arrival

CHANNELS: Mapping[str, Channel] = {module.CHANNEL.kind: module.CHANNEL for module in (kv, hidden, fuse, text)}
"""By kind."""
PLAIN = kv.CHANNEL
"""Of an edge between agents where no channel is written."""
WORDS = text.CHANNEL
"""What every edge is with `--channel text`."""
ARRIVALS: Mapping[str, type[Arrival]] = {
    channel.arrival.word: channel.arrival for channel in (WORDS, *CHANNELS.values()) if channel.arrival is not None
}
"""What comes to a prompt, by its line in a plan: words first, the others in the order of the channels."""
