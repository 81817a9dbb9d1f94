"""What the tokenizer of a folder is made of: how many tokens, which are control tokens, what it sets before a text.

The files are those that transformers reads: `tokenizer.json` (of the `tokenizers` library), `tokenizer_config.json`,
`special_tokens_map.json`, `added_tokens.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import MOST_JSON, read_json, read_regular
from masc.compiler.models.folder.finding import Finding, some
from masc.dsl.diagnostics import first_line

_WHOLE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_CONVERTED = ("tokenizer.model", "vocab.json", "spiece.model", "vocab.txt", "tekken.json")
"""What transformers makes a tokenizer of where there is no `tokenizer.json`."""
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Tokens:
    """words: the largest id of its vocabulary proper (what any text may be cut into); added: added tokens by content;
    named: tokens by role (`bos_token`), as a chat template is told them; first: what it sets before every text."""

    words: int
    added: Mapping[str, int]
    named: Mapping[str, str]
    first: str


def read_tokens(folder: Path, config: Mapping[str, Any]) -> tuple[Tokens | None, list[Finding]]:
    """The tokenizer of a folder (None: its files do not say without transformers), and what is wrong with it. config:
    its `tokenizer_config.json`."""
    if not (folder / _WHOLE).exists():
        if any((folder / name).exists() for name in _CONVERTED):
            return None, []
        return None, [Finding("E0535", f"has no tokenizer: there is no `{_WHOLE}` in its folder")]
    from tokenizers import Tokenizer

    try:
        whole = Tokenizer.from_str(read_regular(folder / _WHOLE, MOST_JSON).decode("utf-8"))
    except Exception as error:  # the library raises plain exceptions
        first = first_line(error)
        message = f"has a tokenizer that cannot be read: `{_WHOLE}`: {first}"
        return None, [Finding("E0535", message, "copy or fetch the model again")]
    added = {str(token.content): number for number, token in whole.get_added_tokens_decoder().items()}
    plain = whole.get_vocab(with_added_tokens=False)
    words = max((number for word, number in plain.items() if word not in added), default=-1)
    named = dict(_named(folder, config))
    following = max([words, *added.values(), *plain.values()]) + 1
    for token in dict.fromkeys(named.values()):  # transformers adds what is named and not there, behind all others
        if token not in added and token not in plain:
            added[token] = following
            following += 1
    return Tokens(words, added, named, _first(whole, config, named)), []


def _named(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        older = read_json(folder / "special_tokens_map.json")
    except (OSError, ValueError):
        older = {}
    for name in _NAMED:
        token = config.get(name, older.get(name) if isinstance(older, dict) else None)
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str) and content:
            yield name, content


def _first(whole: Any, config: Mapping[str, Any], named: Mapping[str, str]) -> str:
    """The tokens that are set before every text, as text: what `add_bos_token` says, else what its post-processor
    does."""
    if isinstance(said := config.get("add_bos_token"), bool):
        return named.get("bos_token", "") if said else ""
    whole.no_truncation()
    whole.no_padding()
    marked = whole.encode("a", add_special_tokens=True)
    bare = whole.encode("a", add_special_tokens=False)
    extra = len(marked.ids) - len(bare.ids)
    at = next((i for i in range(extra + 1) if marked.ids[i : i + len(bare.ids)] == bare.ids), 0) if extra > 0 else 0
    return "".join(marked.tokens[:at])


def beyond(tokens: Tokens, rows: int) -> Iterator[Finding]:
    """Tokens that the embedding, of so many rows, does not have."""
    if tokens.words >= rows:
        message = f"has a tokenizer of {tokens.words + 1:,} tokens and an embedding of {rows:,} rows"
        yield Finding("E0536", message, "tokenizer and weights must be of one model")
    elif lost := unembedded(tokens, rows):
        message = f"has no vector for {some(lost)}: a prompt that holds one is refused"
        yield Finding("W0510", message, "tokens that were added need rows of the embedding (`resize_token_embeddings`)")


def unembedded(tokens: Tokens, rows: int) -> list[str]:
    """The added tokens beyond the embedding's rows."""
    return [content for content, number in tokens.added.items() if number >= rows]
