"""Hypothesis strategies for syntax trees and for texts, valid and broken; example texts."""

from __future__ import annotations

from importlib.resources import files as files_of

from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark

from masc.dsl import syntax as s
from masc.dsl.source import Source, Span
from masc.dsl.tokens import KEYWORDS, build_grammar

AT = Span(Source("made.mas", ""), 0, 0)

SKETCH = '''# The sketch of the design.
mas 1                                     # language version, first line

import "roles.mas" (critic, refiner)

model small = "smollm2-135m"              # registry name, Hugging Face id, or a local folder
param latents: int = 10                   # --set latents=20

agent planner on small {
  system "You plan before you compute."
  user   """
         {question}
         Write a short plan. Do not answer yet.
         """
  think  latents (align = ridge)          # latent steps, nothing decoded
  adapt  lora(rank = 8, alpha = 16)
}

agent expert(field: text) on small {      # a template, instantiated below
  user "You know {field}. {question}"
  think latents
}

agent solver on small {
  user "{question}\\nEnd with the number alone."
  answer (max_tokens = 128)
}

graph relay(question) -> answer {
  maths   = expert("mathematics")
  physics = expert("physics")
  planner -> [maths, physics] : kv
  [maths, physics] -> solver  : kv(carry = own, merge = stack, open = 40 as trace, layers = 0..9)
  repeat 2 { solver -> critic : kv   critic -> solver : kv(carry = latents) }
}

train {
  data "train.jsonl"   answer <- solution          # which column supervises which output
  batch 8   steps 500   rate 2e-4   warmup 0.05
}
'''

YAML_SKETCH = """# The sketch of the design.
mas: 1                                    # language version
imports: [{from: roles.mas, names: [critic, refiner]}]
models: {small: smollm2-135m}             # registry name
params: {latents: 10}
agents:
  planner:
    on: small
    system: You plan before you compute.
    user: |
      {question}
      Write a short plan. Do not answer yet.
    think: {steps: latents, align: ridge} # latent steps
    adapt: {lora: {rank: 8, alpha: 16}}
  expert:                                 # a template
    on: small
    fields: {field: text}
    user: You know {field}. {question}
    think: latents
  solver:
    on: small
    user: "{question}\\nEnd with the number alone."
    answer: {max_tokens: 128}
graph:
  name: relay
  inputs: [question]
  outputs: [answer]
  body:
    - maths   = expert("mathematics")
    - physics = expert("physics")
    - planner -> [maths, physics] : kv
    - "[maths, physics] -> solver  : kv(carry = own, merge = stack, open = 40 as trace, layers = 0..9)"
    - repeat: 2
      body:
        - solver -> critic : kv
        - critic -> solver : kv(carry = latents)
train:
  data: train.jsonl
  supervise: {answer: solution}           # which column
  batch: 8
  steps: 500
  rate: 2e-4
  warmup: 0.05
"""

PIECES = [
    *"{}[]()=:,#\n\"'\\",
    "->",
    "<-",
    "..",
    '"""',
    "{{",
    "}}",
    "{x}",
    "\\u12",
    " ",
    "  ",
    "- ",
    ": ",
    "\t",
    "\r\n",
]
PIECES += [*KEYWORDS.values(), "a", "b", "1", "-2.5", "1_0", ".5", "é"]
PIECES += [
    "mas 1\n",
    "mas: 1\n",
    '"x"',
    "agents:",
    "&a",
    "*a",
    "!t",
    "|",
    ">",
    "?",
    "%",
    "@",
    "\ufeff",
    "\x00",
    "\u2028",
]

texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with a few parts deleted, inserted, copied or swapped."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["delete", "insert", "swap", "cut"])):
            case "delete":
                text = text[:start] + text[end:]
            case "insert":
                text = text[:start] + draw(st.sampled_from(PIECES)) + text[start:]
            case "swap":
                other = draw(st.integers(0, len(text)))
                text = text[:start] + text[other : other + 12] + text[end:]
            case "cut":
                text = text[:start]
    return text


WORDS = [*KEYWORDS.values(), "a", "b", "c", "planner", "x1", "_y", "latents", "none"]
names = st.sampled_from(WORDS).map(lambda text: s.Name(AT, text))
columns = st.one_of(names, st.text(max_size=12).map(lambda text: s.Name(AT, text)))
some_names = st.lists(names, max_size=3).map(tuple)
strings = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
numbers = st.one_of(st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
literals = st.one_of(strings, numbers, st.booleans()).map(lambda value: s.Literal(AT, value))
ranges = st.builds(s.Range, st.just(AT), st.integers(-99, 99), st.integers(-99, 99))
values = st.recursive(
    st.one_of(names, literals, ranges),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: s.List(AT, tuple(items))),
    max_leaves=5,
)
qualifiers = st.one_of(st.none(), names)
pairs = st.lists(st.builds(s.Option, st.just(AT), names, values), min_size=1, max_size=3).map(tuple)
tables = st.builds(s.Table, st.just(AT), pairs)
options = st.lists(st.builds(s.Option, st.just(AT), names, values | tables, qualifiers), max_size=3).map(tuple)
comments = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8).map(str.strip)
some_comments = st.lists(st.one_of(comments, st.none()), max_size=3).map(tuple)
item = {"span": st.just(AT), "leading": some_comments, "trailing": st.one_of(st.none(), comments)}
block = item | {"inner": some_comments}


@st.composite
def prompts(draw: st.DrawFn) -> s.Prompt:
    """Any prompt that the language can say: joined, no empty text, stripped at both ends."""
    holes = draw(st.lists(names.map(lambda name: s.Placeholder(AT, name.text)), max_size=3))
    parts: list[str | s.Placeholder] = [draw(strings)]
    for hole in holes:
        parts += [hole, draw(strings)]
    parts[0] = str(parts[0]).lstrip()
    parts[-1] = str(parts[-1]).rstrip()
    return s.Prompt(AT, tuple(part for part in parts if part != ""))


roles = st.sampled_from(["system", "user"]).map(lambda text: s.Name(AT, text))
kinds = names.filter(lambda name: name.text != "as")
starts_with = st.none() | strings.map(lambda text: s.Literal(AT, text))
members = st.one_of(
    st.builds(s.Say, **item, role=roles, prompt=prompts()),
    st.builds(s.Think, **item, steps=values, options=options),
    st.builds(
        s.Adapt,
        **item,
        kind=kinds,
        options=options,
        start=starts_with,
    ),
    st.builds(s.Adapt, **item, kind=st.just(s.Name(AT, "as")), options=st.just(()), of=names),
    st.builds(s.Answer, **item, options=options),
    st.builds(s.Variables, **item, options=pairs),
)
groups = st.lists(names, min_size=1, max_size=3).map(lambda found: s.Group(AT, tuple(found)))
# `repeat` at the start of a statement is the keyword, and only there.
starts = names.filter(lambda name: name.text != "repeat")
first = st.one_of(starts.map(lambda name: s.Group(AT, (name,))), groups.filter(lambda group: len(group.names) > 1))
stages = st.tuples(first, st.lists(groups, min_size=1, max_size=3)).map(lambda pair: (pair[0], *pair[1]))
channels = st.one_of(st.none(), st.builds(s.Channel, st.just(AT), names, options))
arguments = st.lists(values, max_size=2).map(tuple)
statements = st.recursive(
    st.one_of(
        st.builds(s.Edge, **item, stages=stages, channel=channels),
        st.builds(s.Instance, **item, name=starts, template=names, arguments=arguments),
        st.builds(s.Lone, **item, name=starts),
    ),
    lambda inner: st.builds(s.Repeat, **block, count=values, body=st.lists(inner, max_size=3).map(tuple)),
    max_leaves=4,
)
# `agent name(` and `graph name(` begin a declaration wherever they stand.
called = names.filter(lambda name: name.text not in ("agent", "graph"))
entries = st.one_of(
    st.builds(s.Supervise, **item, output=names, column=columns),
    st.builds(s.Setting, **item, name=names, value=values),
    st.builds(s.Setting, **item, name=called, value=st.builds(s.Call, st.just(AT), names, options)),
)


def _many(strategy: st.SearchStrategy[object], size: int) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=size).map(tuple)


paths = strings.map(lambda text: s.Literal(AT, text))
fields = _many(st.builds(s.Field, st.just(AT), names, names), 2)
outputs = st.lists(names, min_size=1, max_size=2).map(tuple)
declarations = st.one_of(
    st.builds(s.Import, **item, path=paths, names=some_names),
    st.builds(s.Model, **item, name=names, target=paths, options=options),
    st.builds(s.Param, **item, name=names, type=names, default=values),
    st.builds(s.Agent, **block, name=names, fields=fields, model=names, members=_many(members, 4)),
    st.builds(s.Graph, **block, name=names, inputs=some_names, outputs=outputs, body=_many(statements, 4)),
    st.builds(s.Train, **block, entries=_many(entries, 4)),
)
files = st.builds(
    s.File,
    st.just(AT),
    st.just(1),
    _many(declarations, 4),
    header=item["leading"],
    trailer=item["leading"],
    trailing=item["trailing"],
)


def _from_grammar() -> st.SearchStrategy[str]:
    """Texts that the grammar itself makes, with comments between any two tokens. Words end with a space."""
    tokens = {kind: st.just(f"{word} ") for kind, word in KEYWORDS.items() if word != "mas"}
    tokens |= {word.upper(): st.just(f"{word} ") for word in ("true", "false")}
    tokens |= {
        "NAME": st.sampled_from(["a ", "b ", "c_1 ", "latents "]),
        "NUMBER": st.sampled_from(["1 ", "0 ", "12 ", "-3 "]),
        "STRING": st.sampled_from(['"x"', '"{a} y"', '"""\n  a\n   {b}\n  """', '"\\u00e9\\n"', '""']),
        "BLANK": st.sampled_from([" ", "\n", "\r\n", "\t"]),
        "COMMENT": st.sampled_from(["# one\n", "#two \n", "#\n"]),
        "STRAY": st.just(" "),  # ignored by the lexer, but told
        "ERROR": st.nothing(),
    }
    grammar = files_of("masc.dsl").joinpath("grammar.lark").read_text(encoding="utf-8")
    declarations = from_lark(build_grammar(grammar, None), start="declaration", explicit=tokens)
    return st.lists(declarations, max_size=4).map(lambda found: "mas 1\n" + "\n".join(found))


grammatical = _from_grammar()
