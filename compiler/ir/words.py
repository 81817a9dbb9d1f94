"""How names look in a plan."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
SEGMENT = re.compile(r"[A-Za-z_]\w*#[1-9]\d*", re.ASCII)
