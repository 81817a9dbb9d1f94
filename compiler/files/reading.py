"""Reading files that anybody may have written. Only regular files up to a size are read, and JSON up to a depth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from masc.dsl.regular import read_regular as read_regular

MOST_JSON = 1 << 28
"""Bytes of the largest JSON file that is read: 256 MiB. The tokenizers of large vocabularies take some 30."""


def parse_json(text: str | bytes, *, unique: bool = False) -> Any:
    """The value of a JSON text. ValueError for what is not JSON in UTF-8, for `NaN` and `Infinity`, and for values that
    are nested too deeply. unique: an object with a key twice is an error too; otherwise the last value counts."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value of a JSON file. OSError as `read_regular`, ValueError as `parse_json`."""
    return parse_json(read_regular(path, most))


def _no_number(name: str) -> Any:
    raise ValueError(f"`{name}` is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def digest_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
