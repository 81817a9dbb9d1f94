"""Where masc keeps what it can make again: fetched models, the parser's tables."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def cache_folder() -> Path:
    """masc's own: `$MASC_CACHE`, else `masc` in the user's."""
    if own := os.environ.get("MASC_CACHE"):
        return Path(own).expanduser()
    return user_cache() / "masc"
