"""Hints for lines that could not be read.

First a table of habits from other languages and tools is tried from the top. If none of them matches, the hint shows
what a line with that first word looks like.
"""

from __future__ import annotations

import re

from masc.dsl.known import ALIGNMENT, CHANNELS

_CHANNELS = f"{', '.join(f'`{kind}`' for kind in CHANNELS[:-1])} or `{CHANNELS[-1]}`"
_MODEL = '`model small = "smollm2-135m"`'
_OPTIONS = 'options of a model stand in parentheses: `model small = "smollm2-135m" (load = nf4)`'
_PROMPT = 'a prompt is a text in double quotes: `user "{question}"`'
_TRAIN = "an entry and its value stand side by side, `steps 20`; a label is `output <- column`"
_GRAPH = "a graph is `graph name(question) -> answer { ... }`"
_EDGE = "an edge is `a -> b : kv(carry = own)`, several agents at an end `[a, b]`"
_TEXT_WORDS = "prompt|instructions?|role|assistant|description|persona|goal|context|template|message|developer|human"
_NUMBER = r"-?[\d.]+(?:[eE]-?\d+)?"

# The block that the line is in ("": none; `agent`, `graph` or `train`; None: any), a pattern that matches the line from
# its start, and the hint.
_SEEN: tuple[tuple[str | None, str, str], ...] = (
    (None, r"agent\s+\w+\s*(\(.*\)\s*)?on\s+(?!\w+\s*[({]|\w+\s*$)",
     f"name a model that is declared: {_MODEL}, then `on small`"),
    (None, r"model\s+\w+\s*=\s*[^\"'\s]", 'the name of a model stands in quotes: `model small = "smollm2-135m"`'),
    (None, r"model\s+\w+\s*=\s*\"[^\"]*\"\s*[\w{\[,]", _OPTIONS),
    (None, r"--|/\*", "a comment starts with `#`"),
    (None, r"adapt.*\b(all-linear|linear)", "all linear projections are `targets = all`"),
    (None, r"(agent|graph|model|param)\s+\w+-\w", "a name has no hyphen, write `_`"),
    (None, r"agent\s+\w+\s*(\{|:|\(\w*\)|$)", f"say on which model: {_MODEL}, then `agent name on small {{ ... }}`"),
    ("graph", r".*->.*:\s*\w+(,|\s)\s*\w+\s*[=:]", "options stand in parentheses: `kv(carry = own, open = 40)`"),
    ("graph", r".*->.*:\s*\w+[{\[]", "options stand in parentheses: `kv(carry = own, open = 40)`"),
    ("graph", r".*->.*layers\s*=\s*\d+\s*(-|:|\.\.\.|to)\s*\d+", "a range of layers is `0..9`, both ends included"),
    ("graph", r".*->.*\((.*,)?\s*\w+\s*(:|==|:=)", "an option is `name = value`: `kv(carry = own)`"),
    ("graph", r".*->.*:\s*[\"\[]", f"the channel is a word without quotes: {_CHANNELS}"),
    ("graph", r".*->.*:\s*\w+(\(.*\))?\s*(,|\+|&|and\b|\|)",
     "an edge carries one thing: write a line for each channel"),
    ("graph", r"(for|loop|while|times|rounds)\b|repeat\s*(\(|\S+\s*(:|times|x\b))",
     "rounds are `repeat 2 { a -> b : kv }`"),
    ("graph", r"\w+\s*=\s*\w+\s*$", "an instance of a template is `maths = expert(\"mathematics\")`"),
    ("graph", r"\w+\s*<-(?!>)", "the arrow points to the receiver: `sender -> receiver : kv`"),
    ("graph", r".*(=>|-->|~>|>>|<->|\s>\s|- >)", "an arrow is `->`, one for each direction"),
    ("graph", r".*\w-\w", "a name has no hyphen, write `_`"),
    ("agent", r"(adapt\s+)?(lora|peft|adapter|rank|alpha|freeze|frozen|trainable)\b(?!\()",
     "an adapter is `adapt lora(rank = 8)`, none `adapt none`"),
    ("agent", r"(lora|adapter)\b|adapt\s*[(=:]", "an adapter is `adapt lora(rank = 8)`, none `adapt none`"),
    ("agent", r"adapt\s+\w+\s*\(.*(:|==|:=)", "an option is `name = value`: `adapt lora(rank = 8)`"),
    ("agent", rf"({_TEXT_WORDS})\b",
     "the texts of an agent are `system \"...\"` and `user \"...\"`"),
    ("agent", r"(latents?|thoughts?|steps|reason|thinking)\b", "latent steps are `think 10`"),
    ("agent", r"(max_\w+|temperature|top_\w+|stop|seed|decode|sampling|outputs?|say|reply|respond|generate)\b",
     "what an agent says is `answer (max_tokens = 128, temperature = 0)`"),
    ("agent", r"(model|llm|base|on)\b", "the model stands in the first line: `agent name on small { ... }`"),
    ("agent", r"(tools?|functions?|memory|retriever)\b",
     "an agent has prompts, latent steps, an adapter and an answer, and no tools"),
    ("train", r"\w+\s*->\s*\w+", "the output comes first: `answer <- solution`"),
    ("train", r"\w+\s*<-", "a column is a name, or a text in quotes: `answer <- \"Gold Answer\"`"),
    ("train", rf"\w+\s+{_NUMBER}\s*,\s*\d", "a number has a point: 0.5"),
    ("train", rf"\w+\s+{_NUMBER}\s*%", "a share is a number: 0.05 is five per cent"),
    ("", r"(def|func\w*|fn|team|workflow|flow|network|pipeline|crew|net|chain|edges?)\b", _GRAPH),
    ("", r"(from|include|require|use|load|using)\b", 'an import is `import "roles.mas" (critic, helper)`'),
    ("", r"(let|const|var|set|variable|config|arg|args|option)\b", "a parameter is `param latents: int = 10`"),
    ("", r"(base|llm|backbone|checkpoint|lm)\b", f"a model is {_MODEL}"),
    ("", r"(role|node|actor|assistant|class|expert|member)\b", "an agent is `agent name on small { ... }`"),
    ("", r"(training|fit|optimi[sz]er|trainer|loss|data)\b",
     "what trains is `train { data \"train.jsonl\" steps 200 }`"),
    ("", r"\w+\s*[=:]", f"say what it is: a model is {_MODEL}, a parameter `param latents: int = 10`"),
)  # fmt: skip

_KINDS = {
    "import": 'an import is `import "roles.mas" (critic, helper)`',
    "model": f"a model is {_MODEL}",
    "param": "a parameter is `param latents: int = 10`; its type is int, float, bool or text",
    "agent": "an agent is `agent name on small { ... }`, a template `agent name(field: text) on small { ... }`",
    "graph": _GRAPH,
    "train": "what trains is `train { data \"train.jsonl\" steps 200 }`",
    "system": _PROMPT,
    "user": _PROMPT,
    "think": f"latent steps are `think 10` or `think 10 (align = {ALIGNMENT})`",
    "adapt": "an adapter is `adapt lora(rank = 8)`, none `adapt none`",
    "answer": "what an agent says is `answer` or `answer (max_tokens = 128)`",
    "template": "variables of the chat template are `template (enable_thinking = false)`",
    "repeat": "rounds are `repeat 2 { a -> b : kv }`",
}  # fmt: skip
_BLOCKS = {"graph": _EDGE, "train": _TRAIN}


def form_of_line(line: str, block: str) -> str | None:
    """The hint for a line that could not be read; None: there is none. block: the block that it is in, "" for none."""
    line = line.strip()
    for where, pattern, hint in _SEEN:
        if where in (None, block) and re.match(pattern, line):
            return hint
    first = re.match(r"\w+", line)
    kinds = _KINDS if block != "train" else {}
    return kinds.get(first[0] if first else "") or _BLOCKS.get(block)
