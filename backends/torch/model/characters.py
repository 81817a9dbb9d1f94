"""Text to token ids, where only its author may write control tokens.

Added tokens (`<|im_end|>`, `<think>`) are found by the tokenizer wherever a text spells them, and some tokenizers find
them in other spellings too, since they normalise (NFKC, lower case). Here a second tokenizer does the work: it has the
same model, normaliser and pre-tokenizer, but each added token is spelt by a stand-in that nobody can guess. Stand-ins
are put where the author's own text holds an added token; all else, above all values, is the characters that it is. The
text is still tokenised in one go, so that pieces next to each other become the tokens that they always became.

Added tokens that are mere words (letters, digits, blanks; not special), by which a vocabulary was enlarged, are no
control tokens: they are found everywhere.
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer

Piece = tuple[str, bool]
"""A text, and whether it is its author's: then added tokens in it are what they spell."""


@dataclass(frozen=True)
class Coded:
    """ids: token ids; ends: up to which character of the pieces each goes, counted as they were tokenised; lengths: of
    the pieces, counted likewise."""

    ids: list[int]
    ends: list[int]
    lengths: list[int]


class Characters:
    """Tokenises for one model. tokenizer: its `tokenizers.Tokenizer`, which stays as it is."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._own = tokenizer
        every = {number: token for number, token in tokenizer.get_added_tokens_decoder().items() if token.content}
        self._words = {number: token for number, token in every.items() if _is_word(token)}
        self._added = {number: token for number, token in every.items() if number not in self._words}
        nonce = secrets.token_hex(16)
        self._stand_ins = {number: f"\ue0f5{nonce}{i:06d}\ue0f6" for i, number in enumerate(self._added)}

    def code(self, pieces: Sequence[Piece]) -> Coded:
        """Pieces as one text. No added token comes from a piece that is not its author's, but for the one that stands
        for what a vocabulary lacks."""
        written = [self._stood_in(text) if authored else text for text, authored in pieces]
        return self._encode(written)

    def literal(self, text: str, end: int | None = None) -> list[int]:
        """The ids of what a model says: its special tokens are characters in it, its other added tokens (`<think>`)
        themselves where they are spelt as they are shown. Decoding shows the latter, and leaves the former out, and the
        token that ends what is said (end)."""
        shown = {t.content: number for number, t in self._added.items() if not t.special and number != end}
        return self._encode(["".join(self._spelt(text, shown))]).ids

    def _spelt(self, text: str, shown: dict[str, int]) -> Iterator[str]:
        if not shown or not any(content in text for content in shown):
            yield text
            return
        pattern = "|".join(map(re.escape, sorted(shown, key=len, reverse=True)))
        for part in re.split(f"({pattern})", text):
            yield self._stand_ins[shown[part]] if part in shown else part

    def _stood_in(self, text: str) -> str:
        """An author's text with stand-ins for the added tokens that the tokenizer finds in it, and for the blanks that
        these take with them."""
        found = self._reader.encode(text, add_special_tokens=False)
        parts: list[str] = []
        at = 0
        for number, (start, end) in zip(found.ids, found.offsets, strict=True):
            if number in self._read and self._spells(text[start:end], self._read[number]):
                parts += [text[at:start], self._stand_ins[self._read[number]]]
                at = end
        return "".join([*parts, text[at:]])

    def _spells(self, text: str, number: int) -> bool:
        """Whether an added token is what a text says; else it stands there for what the vocabulary lacks."""
        content, normalizer = self._added[number].content, self._own.normalizer
        if normalizer is None or text.strip() == content:
            return text.strip() == content
        return normalizer.normalize_str(content) in normalizer.normalize_str(text)

    def _encode(self, texts: Sequence[str]) -> Coded:
        text = "".join(texts)
        found, names = self._same_model.encode(text, add_special_tokens=False), self._same_names
        if not self._added.keys().isdisjoint(found.ids):  # the model itself knows how to spell one
            found, names = self._other_model.encode(text, add_special_tokens=False), self._other_names
        ids = [names.get(number, number) for number in found.ids]
        return Coded(ids, [end for _, end in found.offsets], [len(each) for each in texts])

    @cached_property
    def _reader(self) -> Tokenizer:
        """The tokenizer itself, but that it says exactly where a token stands: blanks that it takes are part of it."""
        made = Tokenizer(self._own.model)
        self._dress(made, ("normalizer", "pre_tokenizer"))
        made.add_tokens([*self._added.values(), *self._words.values()])
        return made

    @cached_property
    def _read(self) -> dict[int, int]:
        return self._named(self._reader, {number: token.content for number, token in self._added.items()})

    @cached_property
    def _same_model(self) -> Tokenizer:
        return self._dressed(Tokenizer(self._own.model))

    @cached_property
    def _same_names(self) -> dict[int, int]:
        return self._named(self._same_model, self._stand_ins | self._spelling)

    @cached_property
    def _other_model(self) -> Tokenizer:
        """With a model in whose vocabulary the added tokens bear the names of their stand-ins."""
        whole = json.loads(self._own.to_str())
        stand_ins = {token.content: self._stand_ins[number] for number, token in self._added.items()}
        model = _renamed(whole["model"], stand_ins)
        bare = {"version": whole["version"], "model": model, "added_tokens": []}
        rest = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
        return self._dressed(Tokenizer.from_str(json.dumps(bare | dict.fromkeys(rest))))

    @cached_property
    def _other_names(self) -> dict[int, int]:
        return self._named(self._other_model, self._stand_ins | self._spelling)

    @cached_property
    def _spelling(self) -> dict[int, str]:
        return {number: token.content for number, token in self._words.items()}

    def _dressed(self, made: Tokenizer) -> Tokenizer:
        self._dress(made, ("normalizer", "pre_tokenizer", "post_processor"))
        made.add_special_tokens([AddedToken(name, normalized=False) for name in self._stand_ins.values()])
        made.add_tokens(list(self._words.values()))
        return made

    def _dress(self, made: Tokenizer, parts: Sequence[str]) -> None:
        for part in parts:
            if (own := getattr(self._own, part)) is not None:
                setattr(made, part, own)

    @staticmethod
    def _named(made: Tokenizer, names: Mapping[int, str]) -> dict[int, int]:
        """By the id that a name has in a tokenizer, the id of the token that it names."""
        found = {made.token_to_id(name): number for number, name in names.items()}
        return {own: number for own, number in found.items() if own is not None}


def _is_word(token: AddedToken) -> bool:
    """Whether an added token is a part of ordinary text, and controls nothing."""
    return not token.special and all(
        unicodedata.category(char)[0] in "LMNZ" or char.isspace() for char in token.content
    )


def _renamed(model: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A tokenizer's model, as JSON, with entries of its vocabulary under other names, so that no text is cut into them.
    Entries keep their ids; merges that would make one are left out."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        found: dict[str, Any] = {"vocab": {names.get(word, word): number for word, number in vocabulary.items()}}
    else:
        found = {"vocab": [[names.get(word, word), score] for word, score in vocabulary]}
    if merges := model.get("merges"):
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges]
        found["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]
    if model.get("unk_token") in names:
        found["unk_token"] = names[model["unk_token"]]
    return model | found
