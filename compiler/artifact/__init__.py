"""The artifact: `relay.mas` compiles to `relay.masc/`, a folder that holds everything but the base model's weights.

    relay.mas          a copy of the source, and of the files that it imports from its folder or below
    plan.json          the plan
    manifest.json      format, versions, models with content hashes, what `--set` said, how it was trained, and a
                       checksum of every file that masc put there
    adapters/<agent>/  PEFT's own format            } written by the backend
    channels.safetensors, checkpoints/, metrics.jsonl, profile.json.gz }

An untrained artifact holds no weights, only a seed. One process writes at a time (`lock.py`). All new files become
valid at once (`install.py`). Readers need no lock (`read.py`).
"""

from __future__ import annotations

from masc.compiler.artifact.find import locate
from masc.compiler.artifact.gates import gates_of, with_gates
from masc.compiler.artifact.layout import Layout, is_weights
from masc.compiler.artifact.lock import is_other_rank, writing
from masc.compiler.artifact.manifest import (
    Manifest,
    ModelRecord,
    Training,
    dump_manifest,
    known_manifest,
    portable,
    read_manifest,
    versions,
)
from masc.compiler.artifact.of_training import checkpoint_above, describe_training
from masc.compiler.artifact.read import (
    Artifact,
    base_of,
    check_files,
    is_written,
    read_artifact,
    read_consistently,
    read_weights,
    state,
    wait_for_install,
)
from masc.compiler.artifact.write import (
    check_overwrite,
    has_adapters,
    has_checkpoints,
    has_weights,
    save_artifact,
    write_artifact,
)
from masc.compiler.files.artifacts import artifact_of, is_artifact
from masc.compiler.files.writing import atomic_write
from masc.compiler.models.content import model_hash

__all__ = [
    "Artifact",
    "Layout",
    "Manifest",
    "ModelRecord",
    "Training",
    "artifact_of",
    "atomic_write",
    "base_of",
    "check_files",
    "check_overwrite",
    "checkpoint_above",
    "describe_training",
    "dump_manifest",
    "gates_of",
    "has_adapters",
    "has_checkpoints",
    "has_weights",
    "is_artifact",
    "is_other_rank",
    "is_weights",
    "is_written",
    "known_manifest",
    "locate",
    "model_hash",
    "portable",
    "read_artifact",
    "read_consistently",
    "read_manifest",
    "read_weights",
    "save_artifact",
    "state",
    "versions",
    "wait_for_install",
    "with_gates",
    "write_artifact",
    "writing",
]
