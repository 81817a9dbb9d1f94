"""How a model's folder tokenises, without torch and transformers: enough to tell how long prompts and answers are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from masc.backends.torch.model.characters import Characters
from masc.compiler.files.reading import read_json
from masc.compiler.models.chat import ChatTemplate, Form, look, unused
from masc.compiler.models.folder.templates import read_template
from masc.compiler.models.folder.tokens import read_tokens
from masc.compiler.models.refusal import RefusalError


class FolderTexts:
    """What prompts ask of a base model (`prompts.Texts`), read off its folder. ValueError where that has no
    `tokenizer.json` that can be read."""

    max_positions = 0
    """Nothing is refused for its length here."""

    def __init__(self, folder: Path) -> None:
        config = folder / "tokenizer_config.json"
        said: dict[str, Any] = read_json(config) if config.exists() else {}
        tokens, wrong = read_tokens(folder, said)
        if tokens is None or wrong:
            raise ValueError(f"{folder} has no tokenizer.json that can be read")
        text, _ = read_template(folder, said)
        self._tokens = tokens
        self._own = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._own.no_truncation()
        self._own.no_padding()
        self.template = None if text is None else ChatTemplate(text, tokens.named)
        self.form: Form = "text" if self.template is None else look(self.template).form
        self.frames: dict[Hashable, Any] = {}

    @cached_property
    def characters(self) -> Characters:
        return Characters(self._own)

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        return tuple(self._ids(self._tokens.first)) if self._tokens.first else ()

    @property
    def rows(self) -> int:
        return 1 << 62

    def spelt(self, ids: Sequence[int]) -> list[str]:
        return [self._own.id_to_token(number) or "" for number in ids]

    @cached_property
    def end_of_turn(self) -> int:
        after = self._after_an_answer()
        named = self._tokens.added.get(self._tokens.named.get("eos_token", ""))
        return after if after is not None else named if named is not None else -1

    def _after_an_answer(self) -> int | None:
        """As `Base._after_an_answer`: the added token that the template writes behind what an assistant says."""
        if self.template is None:
            return None
        (said,) = unused(1, [self.template.text])
        try:
            text = self.template.render([("user", "?"), ("assistant", said)], self.form, asking=False)
        except RefusalError:
            return None
        _, there, behind = text.rpartition(said)
        after = self._ids(behind.lstrip()) if there else []
        return after[0] if after and after[0] in self._tokens.added.values() else None

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._own.encode(text, add_special_tokens=False).ids
        return found
