"""What was proven of models (`masc models prove`) is remembered in masc's cache, by the content of their folders.

A proof that failed is remembered as well. Whoever copies or moves a model need not prove it again; whoever changes its
weights, its config.json or its tokenizer must.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from masc.compiler.files.reading import read_json
from masc.compiler.files.writing import atomic_write
from masc.compiler.models.content import model_hash
from masc.compiler.models.proof import Proof
from masc.dsl.cache import cache_folder


def proof_of(folder: Path) -> Proof | None:
    """What is known of the model in a folder; None: nothing, or nothing that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return Proof.from_json(read_json(_path(folder)))
    return None


def remember(folder: Path, proof: Proof) -> Path:
    """Keep what was proven of the model in a folder; returns the file. OSError where it cannot be written."""
    path = _path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(asdict(proof), indent=2) + "\n")
    return path


def _path(folder: Path) -> Path:
    return cache_folder() / "proofs" / f"{model_hash(folder)[:32]}.json"
