"""The syntax tree: what was written, nothing resolved.

The `.mas` parser and the YAML reader both build these nodes. Spans and comments do not take part in equality, so that
two trees are equal when they say the same, wherever it stands and however it is commented.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from masc.dsl.source import Span

Comments = tuple[str | None, ...]
"""The texts of comments on lines of their own; None is an empty line (several are one)."""


@dataclass(frozen=True)
class Node:
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Name(Node):
    """An identifier: `[A-Za-z_][A-Za-z0-9_]*`."""

    text: str


@dataclass(frozen=True)
class Literal(Node):
    """A number, a string in quotes, or `true` / `false`. Strings that are not prompts stand here too."""

    value: int | float | str | bool


@dataclass(frozen=True)
class Range(Node):
    """`a..b`, both ends included."""

    first: int
    last: int


@dataclass(frozen=True)
class List(Node):
    items: tuple[Value, ...]


@dataclass(frozen=True)
class Table(Node):
    """`(name = value, ...)` as the value of an option: names that the user chose, with plain values."""

    entries: tuple[Option, ...]


@dataclass(frozen=True)
class Call(Node):
    """`grpo(reward = number)` as the value of an entry of `train`: one of the entry's own words, with options."""

    name: Name
    options: tuple[Option, ...]


# A bare identifier (Name) as a value is either an option's word (`stop`) or a parameter's name: resolving decides.
Value = Name | Literal | Range | List | Table | Call


@dataclass(frozen=True)
class Option(Node):
    """`name = value` in parentheses; in `train`, `name value`. `open = 40 as trace` has `qualifier` trace."""

    name: Name
    value: Value
    qualifier: Name | None = None


@dataclass(frozen=True)
class Placeholder(Node):
    """`{name}` in a prompt."""

    name: str


@dataclass(frozen=True)
class Prompt(Node):
    """A prompt, dedented and stripped, escapes and `{{` resolved: text pieces and placeholders in order.

    Adjacent text pieces are joined, empty ones left out.
    """

    parts: tuple[str | Placeholder, ...]


@dataclass(frozen=True)
class Item(Node):
    """Something that stands on lines of its own, with the comments (text after `#`, stripped) on the lines before it
    and the one at the end of its first line. None among the leading ones is an empty line."""

    leading: Comments = field(default=(), compare=False, kw_only=True)
    trailing: str | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True)
class Block(Item):
    """An item with a `{ ... }` body; `inner` are the comments and empty lines after the last thing in it."""

    inner: Comments = field(default=(), compare=False, kw_only=True)


@dataclass(frozen=True)
class Import(Item):
    """`import "roles.mas" (critic, refiner)`."""

    path: Literal
    names: tuple[Name, ...]


@dataclass(frozen=True)
class Model(Item):
    """`model small = "smollm2-135m" (load = nf4)`: registry name, Hugging Face id or local folder."""

    name: Name
    target: Literal
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Param(Item):
    """`param latents: int = 10`."""

    name: Name
    type: Name
    default: Value


@dataclass(frozen=True)
class Say(Item):
    """`system "..."` or `user "..."`."""

    role: Name
    prompt: Prompt


@dataclass(frozen=True)
class Think(Item):
    """`think 10 (gradient = stop)`."""

    steps: Value
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Adapt(Item):
    """`adapt lora(rank = 8) from "./trained"`, `adapt none`, or `adapt as planner`, whose kind is `as`. of: the agent
    behind it; start: the adapter to begin with."""

    kind: Name
    options: tuple[Option, ...]
    of: Name | None = None
    start: Literal | None = None


@dataclass(frozen=True)
class Answer(Item):
    """`answer (max_tokens = 128)`; the parentheses may be missing."""

    options: tuple[Option, ...]


@dataclass(frozen=True)
class Variables(Item):
    """`template (enable_thinking = true)`: variables of the model's chat template."""

    options: tuple[Option, ...]


Member = Say | Think | Adapt | Answer | Variables


@dataclass(frozen=True)
class Field(Node):
    """One parameter of an agent template: `field: text`."""

    name: Name
    type: Name


@dataclass(frozen=True)
class Agent(Block):
    """`agent planner on small { ... }`. Duplicate members are kept: checking complains, not the parser."""

    name: Name
    fields: tuple[Field, ...]
    model: Name
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Channel(Node):
    """`kv(carry = own)` after the colon of an edge."""

    kind: Name
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Group(Node):
    """`planner` or `[maths, physics]`."""

    names: tuple[Name, ...]


@dataclass(frozen=True)
class Edge(Item):
    """`a -> [b, c] -> d : kv`: two stages or more. Without a channel: `kv` between agents, else who gives an output."""

    stages: tuple[Group, ...]
    channel: Channel | None


@dataclass(frozen=True)
class Instance(Item):
    """`maths = expert("mathematics")`."""

    name: Name
    template: Name
    arguments: tuple[Value, ...]


@dataclass(frozen=True)
class Lone(Item):
    """An agent's name alone on a line: it takes part in the graph without an edge."""

    name: Name


@dataclass(frozen=True)
class Repeat(Block):
    """`repeat 2 { ... }`."""

    count: Value
    body: tuple[Statement, ...]


Statement = Edge | Instance | Lone | Repeat


@dataclass(frozen=True)
class Graph(Block):
    """`graph relay(question) -> answer { ... }`."""

    name: Name
    inputs: tuple[Name, ...]
    outputs: tuple[Name, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Supervise(Item):
    """`answer <- solution`: an output and the data column that supervises it, or an input and the column that it is
    read from. A column may be called anything (`answer <- "Gold Answer"`): the one Name that need be no identifier."""

    output: Name
    column: Name


@dataclass(frozen=True)
class Setting(Item):
    """`steps 500` or `objective grpo(reward = number)` in `train`; several may share a line, the comments then belong
    to the first."""

    name: Name
    value: Value


@dataclass(frozen=True)
class Train(Block):
    entries: tuple[Supervise | Setting, ...]


Declaration = Import | Model | Param | Agent | Graph | Train

CHILDREN: dict[type[Block], str] = {Agent: "members", Graph: "body", Repeat: "body", Train: "entries"}
"""The field of each kind of block that holds the items in it."""


@dataclass(frozen=True)
class Allow(Node):
    """A comment for the compiler, `# masc: allow W0201`, which stands among the comments as well.

    `item`: where the item stands that it is about; None: it is about none, or about the `whole` file (it stands before
    or beside the version).
    """

    text: str
    item: Span | None
    whole: bool = False


@dataclass(frozen=True)
class File(Node):
    """A whole file. `header` are the comments (and None for empty lines) before the version line, `trailing` the one at
    its end, `trailer` those after the last declaration; `allows` are those of all comments that speak to the compiler.
    """

    version: int
    declarations: tuple[Declaration, ...]
    header: Comments = field(default=(), compare=False)
    trailer: Comments = field(default=(), compare=False)
    trailing: str | None = field(default=None, compare=False)
    allows: tuple[Allow, ...] = field(default=(), compare=False)
