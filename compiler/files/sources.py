"""Where rows are: what `data "..."` in a `train` block and `--data` on the command line may name.

    train.jsonl                    a file
    rows/                          a folder of files, or one that `datasets` saved
    rows/:train                    of such a folder one split
    openai/gsm8k:main/train        a data set of the Hugging Face hub: config and split (`squad/squad:train` without)

What is there as a path is a path. Nothing is read here but names of files, and of a saved data set its description.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masc.compiler.files import tables
from masc.compiler.files.reading import read_json

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", *tables.SUFFIXES)
"""Of the files of a folder that hold rows, each also with one of `PACKED` behind it."""
PACKED = (".gz", ".bz2", ".xz", ".lzma")
MOST_FILES = 10_000
"""Of a folder of rows: somebody may name the root of a disk."""

_ABOUT = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
_SPLITS = {
    word: split
    for split, words in {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test", "testing", "eval", "evaluation"),
    }.items()
    for word in words
}
"""Words in the names of files and folders that say to which split they belong, as `datasets` understands them."""
_SPLIT = r"(?:(?P<config>[^:/\[\]]+)/)?(?P<split>[^:/\[\]]+(?:\[[^\[\]]*\])?)"
_CHOSEN = re.compile(rf"(?P<place>.+?):{_SPLIT}")
_HUB = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w.-]+))?")


@dataclass(frozen=True)
class RowSource:
    """One place of rows. written: as the user named it; path: the file or folder (None: it is on the hub); hub: its id
    there."""

    written: str
    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        return self.written

    @property
    def absolute(self) -> str:
        """What names it from anywhere: with the whole path, or as on the hub."""
        if self.path is None:
            return self.written
        chosen = "/".join(filter(None, (self.config, self.split)))
        return f"{self.path.absolute()}{f':{chosen}' if chosen else ''}"


def row_source(written: str | os.PathLike[str], base: Path = Path()) -> RowSource:
    """What a text names. base: the folder that paths are relative to. What is neither there nor can be on the hub is a
    path: who reads it says that it is missing."""
    text = os.fspath(written)
    path = base / text
    if _exists(path) or (match := _CHOSEN.fullmatch(text)) is None:
        return RowSource(text, path)
    config, split = match["config"], match["split"]
    if _exists(place := base / match["place"]):
        return RowSource(text, place, config=config, split=split)
    if (hub := _HUB.fullmatch(match["place"])) is not None:
        return RowSource(text, None, hub["id"], hub["revision"], config, split)
    return RowSource(text, path)


def looks_like_hub(written: str) -> bool:
    """Whether a path that is not there could be an id on the hub, without the split that it needs."""
    return _HUB.fullmatch(written) is not None and not written.lower().endswith((*SUFFIXES, *PACKED))


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved it (`save_to_disk`): one split, or several."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    )


def saved_splits(folder: Path) -> Sequence[str] | None:
    """The splits of a saved data set; None: it is one without a name. OSError, ValueError where it is damaged."""
    if not (folder / "dataset_dict.json").is_file():
        return None
    found = read_json(folder / "dataset_dict.json")
    splits = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(splits, list) or not all(isinstance(name, str) and _is_name(name) for name in splits):
        raise ValueError("`dataset_dict.json` names no splits")
    return splits


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)


def saved_columns(folder: Path) -> Sequence[str]:
    """The columns of one split of a saved data set, by its description. OSError, ValueError where it is damaged."""
    found = read_json(folder / "dataset_info.json")
    features = found.get("features") if isinstance(found, dict) else None
    if not isinstance(features, dict):
        raise ValueError("`dataset_info.json` names no columns")
    return list(features)


def is_repository(folder: Path) -> bool:
    """Whether a folder says in the head of its README which of its files are which config and split, as data sets on
    the hub do: `datasets` reads it then."""
    try:
        with (folder / "README.md").open(encoding="utf-8") as file:
            head = file.read(1 << 16)
    except (OSError, ValueError):
        return False
    front = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    return front is not None and re.search(r"^configs:", front[1], re.MULTILINE) is not None


def files_of(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of rows in a folder and below, by split, in the order of their names. Their names say to which split
    they belong; where none of them does, all are `train`. ValueError: more than MOST_FILES. OSError."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raised):
        folders[:] = sorted(name for name in folders if name[:1] not in "._")
        found += [Path(parent, name) for name in names if name[:1] not in "._" and kind_of(name) is not None]
        if len(found) > MOST_FILES:
            raise ValueError(f"it holds more than {MOST_FILES:,} files of rows")
    splits: dict[str, list[Path]] = {}
    for path in sorted(found):
        splits.setdefault(_split_of(path.relative_to(folder)), []).append(path)
    if set(splits) == {""}:
        splits = {"train": splits[""]}
    return {name: tuple(paths) for name, paths in splits.items()}


def _raised(error: OSError) -> None:
    raise error


def kind_of(name: str) -> str | None:
    """The suffix that says how a file of a folder holds rows; None: it holds none."""
    plain = name.lower()
    if plain in _ABOUT:
        return None
    for packed in PACKED:
        plain = plain.removesuffix(packed)
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)


def _split_of(path: Path) -> str:
    """The split that a path in a folder names, the part nearest to the file first; "" for none."""
    for part in reversed(path.parts):
        words = re.split(r"[^a-z]+", part.lower())
        if (split := next((_SPLITS[word] for word in words if word in _SPLITS), None)) is not None:
            return split
    return ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
