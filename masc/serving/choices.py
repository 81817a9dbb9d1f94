"""One answer of a request as it grows: what of its text and tokens has been told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from masc.backends.torch.engine.fast.live import Answer, Growth
from masc.backends.torch.engine.stopping import Shown
from masc.backends.torch.model.base import Base
from masc.compiler.ir.plan import Sampling


@dataclass(frozen=True)
class Token:
    """A token that was said. text: empty where it ends within a character; logprob: natural log."""

    text: str
    logprob: float


@dataclass
class Choice:
    """index: of the answer in the request. text: what has been shown; prompt, said: tokens of all prompts, and of the
    answers; finish: `stop` or `length` once it is through; outputs: all that the graph answers, where it is several
    things."""

    index: int
    base: Base
    sampling: Sampling
    scored: bool
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    prompt: int = 0
    said: int = 0
    finish: str | None = None
    outputs: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        self._shown = Shown(self.sampling)
        self._before = ""
        """The text of `tokens`."""

    def grow(self, news: Growth | Answer, outputs: Sequence[str]) -> tuple[str, list[Token]]:
        """What is new: a piece of the text, and tokens. outputs: of the graph; the last one is what is told."""
        if isinstance(news, Growth):
            piece = self._shown.piece(self.base.text(news.ids), done=False)
            return self._told(piece, news.ids, news.scores)
        answer = news.said[outputs[-1]]
        self.finish = "length" if answer.cut else "stop"
        self.prompt, self.said = news.prompt, sum(len(news.said[name].ids) for name in outputs)
        if len(outputs) > 1:
            self.outputs = {name: news.said[name].text for name in outputs}
        piece = self._shown.piece(answer.text, done=True)
        return self._told(piece, answer.ids, answer.scores, every=answer.text == self.base.text(answer.ids))

    def _told(
        self, piece: str, ids: Sequence[int], scores: Sequence[float], every: bool = False
    ) -> tuple[str, list[Token]]:
        """every: all tokens are told; else as many as the text that is shown takes."""
        self.text += piece
        new: list[Token] = []
        while self.scored and (at := len(self.tokens) + len(new)) < len(ids):
            if not every and len(self._before) >= len(self.text):
                break
            text = self.base.text(ids[: at + 1]).rstrip("\ufffd")
            new.append(Token(text.removeprefix(self._before) if text.startswith(self._before) else "", scores[at]))
            self._before = text
        self.tokens += new
        return piece, new
