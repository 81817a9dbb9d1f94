"""The channels: what can cross an edge. Each is declared in a module of its own; all else asks these declarations."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.channels import fuse, hidden, kv, text
from masc.compiler.channels.declare import Channel

CHANNELS: Mapping[str, Channel] = {module.CHANNEL.kind: module.CHANNEL for module in (kv, hidden, fuse, text)}
"""By kind."""
PLAIN = kv.CHANNEL
"""Of an edge between agents where no channel is written."""
WORDS = text.CHANNEL
"""What every edge is with `--channel text`."""
