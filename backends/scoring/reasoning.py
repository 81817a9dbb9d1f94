"""What of a model's text is its answer: without reasoning blocks, and only up to where it begins to talk to itself."""

from __future__ import annotations

import re
from itertools import pairwise

BLOCKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""How models mark their reasoning: what opens a block and what closes it, in any case."""
_LONGEST = 20_000
"""Characters of an answer that are read, from its end: nobody looks for it further up."""


def _tag(text: str) -> str:
    """The pattern of a mark; one like HTML may have attributes and blanks."""
    pattern = re.escape(text)
    return pattern[:-1] + r"(?:\s[^<>]*)?>" if re.fullmatch(r"</?[a-z:]+>", text) else pattern


_BLOCK = [(re.compile(_tag(a), re.IGNORECASE), re.compile(_tag(b), re.IGNORECASE)) for a, b in BLOCKS]


def without_reasoning(text: str) -> str:
    """The text without its reasoning blocks (`BLOCKS`).

    A block that is never closed reaches to the end: no answer was given. Where only its end is there (chat templates
    open the block in the prompt) all before it is reasoning.
    """
    for opening, closing in _BLOCK:
        while (first := opening.search(text)) is not None:
            end = closing.search(text, first.end())
            before = closing.search(text, 0, first.start())
            if before is not None:
                text = text[before.end() :]
            else:
                text = text[: first.start()] + (text[end.end() :] if end is not None else "")
        ends = list(closing.finditer(text))
        text = text[ends[-1].end() :] if ends else text
    return text.strip()


# A model that does not stop writes the next example of its prompt, or the next turn of the conversation.
_NEXT = re.compile(
    r"""^[ \t]*(?:[#>*_]+[ \t]*)*
    (?: (?:next\s+)?(?:question|problem|exercise|instruction|input|human|user|q|frage|pregunta|问题|問題|题目)
        (?:\s*\#?\s*\d+)? [*_]* \s* [:.：] (?=\s|\S)
      | (?:user|human|assistant) [ \t]* $
      | \[INST\] | \#\#\#\s*(?:question|instruction|input|user|human)\b )
    | <\|(?:im_end|im_start|eot_id|end_of_text|endoftext|end|eom_id|start_header_id|user|assistant)\|>
    | </s> | <eos> | <end_of_turn> | <start_of_turn> | <｜end▁of▁sentence｜>""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


def turns(text: str) -> list[str]:
    """The text cut where it goes on with another question or turn: the first part that answers is the answer."""
    cuts = [0, *(found.start() for found in _NEXT.finditer(text)), len(text)]
    return [part[-_LONGEST:] for a, b in pairwise(cuts) if (part := text[a:b]).strip()]
