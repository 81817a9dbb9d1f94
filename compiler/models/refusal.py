"""What a chat template does that a prompt cannot be made of."""

from __future__ import annotations


class RefusalError(Exception):
    """Why a template cannot be used for some messages; goes on after "its chat template "."""
