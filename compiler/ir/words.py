"""How names, texts and numbers look in a plan."""

from __future__ import annotations

import json
import re

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
SEGMENT = re.compile(r"[A-Za-z_]\w*#[1-9]\d*", re.ASCII)
# What JSON may hold but a line of text had better not: controls, line separators, lone surrogates.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def quote(text: str) -> str:
    """A JSON string on one line; letters of all alphabets stay readable."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def number_text(value: float) -> str:
    """The shortest text that reads back as the same number; whole numbers without a point."""
    return repr(value).removesuffix(".0")
