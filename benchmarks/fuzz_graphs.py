"""Random graphs, held in float64 on tiny models against what must be true of every graph.

    python benchmarks/fuzz.py graphs --count 2000 --seed 0
    python benchmarks/fuzz.py graphs --seed 0 --only 17     # one of them again

Of each valid graph: its text, its YAML form, its printed plan and its `plan.json` mean the same; a batch equals its
rows one by one, also decoded; the fast engine says what the exact one says; what a loss reaches, tensor by tensor and
view by view, is what the edges say (worked out a second time, `graph_oracle.py`) and what the plan says; stopped
gradients are what they would be if what is stopped were constant; gradients match finite differences; the order of
edges changes nothing where it means nothing; a cut edge is one that nobody sees anything of; saved and loaded, and
printed and parsed, the program answers to the bit.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from draw_graphs import Team, draw
from graph_hooks import held, watched
from graph_oracle import Atom, Oracle
from torch import Tensor

import masc
from masc.backends.torch.build import build
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.program import Program
from masc.backends.torch.training.reached import reached
from masc.compiler.channels.gate import TENSOR
from masc.compiler.forms.plan_json import dump_plan, load_plan
from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.read import read_source
from masc.dsl.source import Source
from masc.dsl.yaml_writer import format_yaml

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

from support import make_model, make_other

ROWS = [
    {"q": "one two", "r": "up", "answer": "yes"},
    {"q": "a", "r": "and down", "answer": "n"},
    {"q": "three? ", "r": "x", "answer": "perhaps"},
]
EXACT = 1e-8
"""Rounding of float64, enlarged by several random models in a row."""


class WrongError(AssertionError):
    """A graph for which something that must be true is not."""


@dataclass(frozen=True)
class Case:
    """One graph: the program as it was drawn, and all that was made of it."""

    team: Team
    folder: Path
    random: Random
    compilation: Compilation
    plan: Plan
    built: Program
    runs: ExitStack = field(default_factory=ExitStack)

    def program(self, team: Team | None = None) -> Program:
        """The program without gradients, with the plan of the team or of a variant of it (to build one takes long)."""
        plan = self.plan if team is None else _compile(team.text(), self.folder).require()
        self.runs.close()
        self.runs.enter_context(self.built.running(plan))
        self.built.zero_grad()
        return self.built


def _compile(text: str, folder: Path, name: str = "drawn.mas", **options: Any) -> Compilation:
    text = text.replace("MODEL", f'"{folder / "m"}"').replace("OTHER", f'"{folder / "n"}"')
    return compile_source(Source(str(folder / name), text), **options)


def _built(plan: Plan, folder: Path, dtype: str = "float64") -> Program:
    program = build(plan, folder, dtype=dtype, device="cpu")
    if dtype == "float64":
        program.double()
    with torch.no_grad():
        for name, parameter in program.trainable().items():  # by name: the order of agents means nothing
            generator = torch.Generator().manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:12], 16))
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if ".lora_B." in name or name.endswith(".gate"):
                parameter.copy_(drawn * 0.2)
            elif name.endswith(TENSOR):  # half open, all of them otherwise
                parameter.copy_(drawn * 0.3)
            elif name.startswith("links."):  # off the ridge, where the map is singled out
                parameter.add_(drawn * 0.05)
    return program


# -- what is held -----------------------------------------------------------------------------------------------------


def forms(case: Case) -> None:
    """Printed and parsed, as JSON, and as YAML, the plan is the same."""
    plan = case.plan
    same("the printed plan", parse_plan(print_plan(plan)), plan)
    same("plan.json", load_plan(dump_plan(plan)), plan)
    assert case.compilation.source is not None
    file, _ = read_source(case.compilation.source)
    assert file is not None
    yaml = _compile(format_yaml(file), case.folder, "drawn.yaml")
    same("the YAML form", yaml.plan, plan)


def batches(case: Case) -> None:
    """A row in a batch is what it is alone, teacher forced and decoded."""
    program = case.program()
    with torch.no_grad():
        whole, said = program(ROWS), program.say(ROWS)
        for i in case.random.sample(range(len(ROWS)), 1):
            row = ROWS[i]
            one = program([row], indices=[i])
            for output, scored in one.outputs.items():
                size = scored.labels.shape[1]
                close(f"row {i + 1} in a batch", whole.outputs[output].logits[i, :size], scored.logits[0])
            alone = program.say([row], [i])[0]
            same(f"what row {i + 1} says", {k: v.ids for k, v in said[i].items()}, {k: v.ids for k, v in alone.items()})


def engines(case: Case) -> None:
    """The fast engine says what the exact one says, whoever shares the batch."""
    program = case.program()
    with torch.no_grad():
        exact, fast = program.say(ROWS, engine="exact"), program.say(ROWS)
        some = dict(program.say_each(ROWS, 2))
    for i, row in enumerate(exact):
        for said in (fast[i], some[i]):
            same(f"what row {i + 1} says", {k: v.ids for k, v in said.items()}, {k: v.ids for k, v in row.items()})
            for name, one in said.items():
                sure = (torch.tensor(value, dtype=torch.float64) for value in (one.logprob, row[name].logprob))
                close(f"how sure row {i + 1} is of it", *sure)


def gradients(case: Case) -> None:
    """The plan's `reaches`, autograd and the edges agree, for each tensor and each view."""
    program = case.program()
    assert case.compilation.graph is not None
    oracle = _oracle(case, program)
    answers = {turn.said: turn.activation for turn in case.plan.answering}
    losses = [answers[loss.output] for loss in case.plan.losses]
    nodes, views = oracle.reached(losses)
    wanted = {name for name in program.trainable() if _node(program, name) in nodes}
    crossed: dict[tuple[str, Atom], float] = {}
    with watched(program, crossed):
        backward(program(ROWS).loss)
    touched = {n for n, p in program.trainable().items() if p.grad is not None and float(p.grad.abs().max()) > 0}
    same("the tensors that get a gradient (left) and those that the edges give one", touched, wanted)
    said = {name for name in reached(program) if name in touched or _node(program, name) not in oracle.narrower}
    same("what the plan says is reached (left) and what is", said, touched)
    passed = {where for where, size in crossed.items() if size > 0}
    same("the views that a gradient passes (left) and those that the edges let pass", passed, views)


def openings(case: Case) -> None:
    """While channels are open, stopped gradients are what they are if what is stopped is constant, row by row."""
    ends = {view.until for turn in case.plan.turns for view in turn.sees if view.until is not None}
    opening = None
    if ends:
        step = case.random.randrange(0, max(ends) + 1)
        opening = Opening(step, torch.tensor([0.1, 0.6, 0.95]))
    if "kv" not in case.team.stops:
        return
    stopped = case.program()
    backward(stopped(ROWS, opening=opening).loss)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in stopped.trainable().items()}
    whole = case.program(case.team.unstopped("kv"))
    with held(whole, _oracle(case, whole), opening):
        backward(whole(ROWS, opening=opening).loss)
    for name, parameter in whole.trainable().items():
        if name.endswith(TENSOR) and "hidden(" in name:
            continue  # which a segment carries along: it is no key and no value, and is not held here
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        close(f"the gradient of {name}", gradients[name], wanted)


def differences(case: Case) -> None:
    """Along a random direction, the gradient without any stop is what finite differences give. Left out are the
    matrices of DoRA, whose gradient takes the norms of rows as constants (docs/semantics.md, section 1)."""
    team = case.team.unstopped("kv", "hidden", "fuse", "think")
    program = case.program(team)
    parameters = [p for name, p in program.trainable().items() if not _of_dora(program, name)]
    if not parameters:
        return
    backward(program(ROWS).loss)
    generator = torch.Generator().manual_seed(case.random.randrange(1 << 30))
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    size = sum(float(d.pow(2).sum()) for d in direction) ** 0.5
    pairs = list(zip(parameters, direction, strict=True))
    analytic = sum(float((p.grad * d).sum()) for p, d in pairs if p.grad is not None) / size

    @torch.no_grad()
    def loss_at(step: float) -> float:
        for p, d in pairs:
            p += step / size * d
        loss = float(program(ROWS).loss)
        for p, d in pairs:
            p -= step / size * d
        return loss

    found = []
    for step in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9):  # the loss may bend strongly; a step that fits is enough
        found.append((loss_at(step) - loss_at(-step)) / (2 * step))
        if abs(found[-1] - analytic) <= 1e-7 + 1e-4 * abs(analytic):
            return
    raise WrongError(f"the gradient along a direction is {analytic}, finite differences give {found}")


def orders(case: Case) -> None:
    """Agents and edges in another order, where that means nothing."""
    team = case.team.shuffled(case.random)
    if team is None:
        return
    with torch.no_grad():
        own = case.program()(ROWS)
        other = case.program(team)(ROWS)
    for output, scored in own.outputs.items():
        close(f"`{output}` with the edges in another order", other.outputs[output].logits, scored.logits)


def cuts(case: Case) -> None:
    """A cut edge is one of which the receiver sees nothing in any layer, and positions stay."""
    edge = case.random.choice(case.team.edges)
    between = {e.kind for e in case.team.edges if (e.sender, e.receiver) == (edge.sender, edge.receiver)}
    cut = _compile(case.team.text(), case.folder, cut=((edge.sender, edge.receiver),)).require()
    starts = [[turn.at for turn in plan.turns] for plan in (cut, case.plan)]
    same("where agents start", *starts)
    if not between <= {"kv", "fuse"}:
        return
    nowhere = (1 << 20, 1 << 20)
    with torch.no_grad():
        less = case.program()
        hidden = less(ROWS, probe=Probe(cut, "layers", layers=nowhere))
        with less.running(cut):
            gone = less(ROWS)
    for output, scored in gone.outputs.items():
        close(f"`{output}` without {edge.sender}:{edge.receiver}", hidden.outputs[output].logits, scored.logits)


def files(case: Case) -> None:
    """Saved and loaded, the same bits; so a plan that was printed and parsed."""
    path = case.folder / "drawn.mas"
    text = case.team.text().replace("MODEL", f'"{case.folder / "m"}"').replace("OTHER", f'"{case.folder / "n"}"')
    path.write_text(text)
    program = masc.compile(path, device="cpu")
    again = _built(parse_plan(print_plan(program.plan)), case.folder, "float32")
    again.load_state_dict(program.state_dict())
    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        program.save(Path(folder) / "drawn.masc")
        loaded = masc.load(Path(folder) / "drawn.masc", device="cpu")
    with torch.no_grad():
        own = program(ROWS)
        for what, other in (("loaded", loaded(ROWS)), ("parsed", again(ROWS))):
            for output, scored in own.outputs.items():
                if not torch.equal(scored.logits, other.outputs[output].logits):
                    raise WrongError(f"`{output}` of the program as it was {what} is not the same to the bit")


CHECKS: dict[Callable[[Case], None], int] = {
    forms: 1,
    gradients: 1,
    openings: 1,
    batches: 2,
    engines: 2,
    differences: 2,
    orders: 2,
    cuts: 2,
    files: 8,
}
"""What is held of which graphs: of every one, of one in two, ..."""


def checks(number: int) -> list[Callable[[Case], None]]:
    """What is held of a graph, by its number."""
    return [check for place, (check, period) in enumerate(CHECKS.items()) if (number + place) % period == 0]


# -- how it is held ---------------------------------------------------------------------------------------------------


def same(what: str, got: Any, wanted: Any) -> None:
    if got == wanted:
        return
    if isinstance(got, set):
        got, wanted = sorted(got - wanted, key=str), sorted(wanted - got, key=str)
        raise WrongError(f"{what} differ: only left {got[:6]}, only right {wanted[:6]} ({len(got)}, {len(wanted)})")
    raise WrongError(f"{what} differs: {got!r} is not {wanted!r}")


def backward(loss: Tensor) -> None:
    """Where everybody is frozen, there is nothing to go back to."""
    if loss.requires_grad:
        loss.backward()


def close(what: str, got: Tensor, wanted: Tensor) -> None:
    off = float((got - wanted).abs().max()) if got.numel() else 0.0
    limit = EXACT * (1 + float(wanted.abs().max()))
    if not off <= limit:
        raise WrongError(f"{what} is off by {off} (allowed {limit})")


def _oracle(case: Case, program: Program) -> Oracle:
    assert case.compilation.graph is not None
    answering = frozenset(turn.activation for turn in case.plan.answering)
    layers = {agent.name: program.base(agent.name).layers for agent in case.plan.agents}
    gates = {name.partition("(")[2][:-1]: value for name, value in program.openness().items() if name[:3] == "kv("}
    opened = {tuple(pair.split(", ")): value for pair, value in gates.items()}
    return Oracle(case.compilation.graph, layers, answering, opened)


def _node(program: Program, name: str) -> tuple[str, ...]:
    """What the oracle calls a parameter."""
    owner = program.owner(name)
    if name.startswith("links."):
        return "link", owner
    if name.startswith("across."):
        kind, _, pair = owner.removesuffix(")").partition("(")
        sender, receiver = pair.split(", ")
        if kind == "kv":
            return "gate", sender, receiver
        if kind == "hidden":
            return kind, sender, receiver
        if name.endswith(TENSOR):
            return kind, sender, receiver, "gate"
        return kind, sender, receiver, str(program.link(kind, sender, receiver).layers[int(name.split(".")[3])])
    layer = name.split(".layers.")[1].split(".")[0]
    return "kv" if ".k_proj." in name or ".v_proj." in name else "rest", owner, layer


def _of_dora(program: Program, name: str) -> bool:
    """Whether a parameter is one of the two matrices of a DoRA adapter."""
    if ".lora_A." not in name and ".lora_B." not in name:
        return False
    lora = program.plan.agent(program.owner(name)).lora
    return lora is not None and lora.dora


# -- the command ------------------------------------------------------------------------------------------------------


def hold(folder: Path, seed: int, number: int, slow: bool = False) -> str:
    """Draw one graph and hold it. Returns "valid" or the code for which the compiler refuses it. Raises WrongError, or
    whatever went wrong. slow: also what is usually done to few graphs."""
    random = Random(f"{seed}:{number}")
    team = draw(random)
    compilation = _compile(team.text(), folder)
    if compilation.plan is None:
        return next(d.code for d in compilation.diagnostics if d.severity == "error")
    built = _built(compilation.plan, folder)
    for check in CHECKS if slow else checks(number):
        case = Case(team, folder, Random(f"{seed}:{number}:{check.__name__}"), compilation, compilation.plan, built)
        try:
            check(case)
        except Exception as error:
            error.add_note(f"--seed {seed} --only {number}: {check.__name__}: {check.__doc__}\n{team.text()}")
            raise
    return "valid"


def models(folder: Path) -> Path:
    """The two tiny models that all graphs run on, in a folder."""
    small = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}
    make_model(folder / "m", num_key_value_heads=1, num_hidden_layers=3, **small)
    make_other(folder / "n", hidden_size=24, intermediate_size=24, num_hidden_layers=2)
    return folder


def run(count: int, seed: int, only: int | None = None) -> int:
    """Draw and hold so many graphs, or one of them; returns how many failed."""
    torch.set_num_threads(1)
    kinds: Counter[str] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = models(Path(temporary))
        for number in range(count) if only is None else [only]:
            try:
                kinds[hold(folder, seed, number, slow=only is not None)] += 1
            except Exception as error:
                failed += 1
                print(f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n", flush=True)
    print(", ".join(f"{many} {kind}" for kind, many in kinds.most_common()))
    return failed
