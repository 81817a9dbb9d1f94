"""A hash of what a model is, from its folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from masc.compiler.files.reading import MOST_JSON
from masc.compiler.models.folder.headers import weight_files
from masc.compiler.models.folder.templates import FOLDER
from masc.dsl.regular import open_regular, read_regular

_OF_A_MODEL = re.compile(
    r"(generation_|.*tokenizer.*)?config\.json|.*tokenizer.*\.json|.*\.index\.json|"
    r"(special_tokens_map|added_tokens|vocab|tekken|chat_template)\.json|(vocab|merges)\.txt|.*\.model|.*\.jinja"
)
"""What is read of a model's folder beside its weights."""


def model_hash(folder: Path) -> str:
    """A cheap and honest content hash of a model's folder.

    Over the bytes of its configs, its tokenizer's files and its chat templates, and of every file of weights its name,
    size and header (names, types and shapes of all tensors) with its first and last megabyte. Another model, another
    tokenizer or another conversion changes it; it costs milliseconds, where hashing gigabytes would cost as much as
    loading them. What no model is made of (notes, a README, the state of a trainer) changes nothing. OSError where a
    file cannot be read or is no regular one.
    """
    digest = hashlib.sha256()
    weights = set(weight_files(folder))
    for path in sorted(folder.iterdir()):
        if path.name in weights:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with open_regular(path) as file:
                header = file.read(8)
                digest.update(header + file.read(min(int.from_bytes(header, "little"), 1 << 26)))
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
        elif _OF_A_MODEL.fullmatch(path.name) and path.exists():
            digest.update(f"{path.name}\n".encode() + read_regular(path, MOST_JSON))
    for path in sorted((folder / FOLDER).glob("*.jinja")):
        digest.update(f"{FOLDER}/{path.name}\n".encode() + read_regular(path, MOST_JSON))
    return digest.hexdigest()
