"""What the fast engine costs, counted: operations, waits of the host, copies of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from counting import counted, operations
from transformers import AutoModelForCausalLM, StaticCache

from graphs import fan
from masc.backends.torch.engine.fast.pipeline import Pipeline, Source
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.model.folded import Folded
from masc.backends.torch.training.train import train
from support import ROWS, chain, make_program, wake

TEAM = chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"))


def endless(tiny: Path, text: str = TEAM, tokens: int = 400) -> Any:
    program = make_program(text.replace("max_tokens = 6", f"max_tokens = {tokens}"), tiny)
    for base in program.bases.values():
        base.stop_ids = frozenset()
    return program


@torch.no_grad()
def plain(folder: Path, tokens: int) -> int:
    """Operations of so many decoded tokens by transformers alone, static cache, no adapters."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cache = StaticCache(config=model.config, max_cache_len=512)
    ids = model(torch.ones(1, 40, dtype=torch.long), past_key_values=cache).logits[:, -1:].argmax(-1)
    with counted() as found:
        for _ in range(tokens):
            ids = model(ids, past_key_values=cache).logits[:, -1:].argmax(-1)
    return operations(found)


def spent(program: Any, rows: list[Any], tokens: int) -> tuple[float, float]:
    """Operations and waits of one decoded token, for rows at once."""
    costs = []
    for count in (8, 8 + tokens):
        program.generate(rows, max_tokens=count)  # copies of the weights are there
        with counted() as found:
            program.generate(rows, max_tokens=count)
        costs.append((operations(found), found["sync"]))
    (few, waits), (many, more) = costs
    return (many - few) / tokens, (more - waits) / tokens


@pytest.mark.parametrize("rows", [1, 4])
def test_a_token_costs_little_more_than_without_adapters(rows: int, tiny: Path) -> None:
    tokens = 64
    own, waits = spent(endless(tiny), ROWS[:rows], tokens)
    assert own <= 1.1 * plain(tiny, tokens) / tokens + 20
    assert waits <= 0.5


def test_sampling_waits_no_more_often(tiny: Path) -> None:
    program = endless(tiny, TEAM.replace("max_tokens = 6", "max_tokens = 6, temperature = 1.0, top_p = 0.9"))
    assert spent(program, ROWS, 64)[1] <= 0.5


def folds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapters that are folded from now on, one after the other."""
    from masc.backends.torch.model import folded

    made: list[str] = []
    own = folded._folded
    monkeypatch.setattr(folded, "_folded", lambda layers, adapter: made.append(adapter) or own(layers, adapter))
    return made


def test_copies_are_kept_until_the_weights_change(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(TEAM, tiny)
    made = folds(monkeypatch)

    def check(*wanted: str) -> None:
        made.clear()
        found = program.say(ROWS)
        assert sorted(made) == sorted(wanted)
        other = program.say(ROWS, engine="exact")
        assert [one["answer"].ids for one in found] == [one["answer"].ids for one in other]

    check("a", "b", "c")
    check()
    program.save_weights(tmp_path)
    train(program, [{**row, "answer": "y"} for row in ROWS], steps=1, batch=2, rate=0.1)
    check("a", "b", "c")
    program.load_weights(tmp_path)
    check("a", "b", "c")
    check()
    weights = {name: p for name, p in program.trainable().items() if ".b.weight" in name}
    next(iter(weights.values())).data.neg_()  # torch keeps no count of this
    check("b")
    wake(program, seed=7)
    check("a", "b", "c")
    program.float()
    check()
    program.double()
    made.clear()
    program.say(ROWS)
    assert sorted(made) == ["a", "b", "c"]


def test_copies_stay_within_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not used for longest goes first; what is needed beside a copy stays."""
    program = make_program(TEAM, tiny)
    base = program.base("a")
    size = sum(layer.get_base_layer().weight.nbytes for layer in base.adapted)
    store: Folded = base.folded
    free = lambda device: 2 * (2 * size - sum(one.size for one in store._kept.values()))  # noqa: E731
    monkeypatch.setattr("masc.backends.torch.model.folded.free_memory", free)
    assert store.of(base.groups, "a")
    assert store.of(base.groups, "b")
    assert list(store._kept) == ["a", "b"]
    assert store.of(base.groups, "a")
    assert store.of(base.groups, "c")
    assert list(store._kept) == ["a", "c"]
    assert store.of(base.groups, "b", beside={"a", "b", "c"}) is None
    assert list(store._kept) == ["a", "c"]


def test_interrupted_it_leaves_nothing_locked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masc.backends.torch.model import folded

    program = make_program(fan("carry = own"), tiny)
    said = program.generate(ROWS)
    wake(program, 2)

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folded, "_folded", stopped)
        with pytest.raises(KeyboardInterrupt):
            program.generate(ROWS)
    wake(program)
    assert program.generate(ROWS) == said
    base = program.base("first")
    run, calls = base.run, []

    def some(*args: Any) -> Any:
        calls.append(1)
        return stopped() if len(calls) == 5 else run(*args)

    base.run = some
    with pytest.raises(KeyboardInterrupt):
        program.generate(ROWS)
    base.run = run
    assert program.generate(ROWS) == said


def test_rows_cost_no_more_in_a_long_chain(tiny: Path) -> None:
    """Passes of the model grow with agents and latent steps, and no faster."""

    def passes(agents: int, latents: int) -> int:
        program = make_program(chain(*((f"a{i}", latents, "norm") for i in range(agents))), tiny)
        base, found = program.base("a0"), []
        run = base.run
        base.run = lambda *args: (found.append(1), run(*args))[1]
        list(Pipeline(program, Source([Job(0, ROWS[0], 0)]), 1, 1).results())
        return len(found)

    few, many = passes(2, 4), passes(8, 4)
    assert many - few == 6 * (1 + 4)
    assert passes(2, 20) - few == 2 * 16


def positions(program: Any) -> list[int]:
    """How many positions each pass of the model runs through from now on."""
    base, found = program.base("a"), []
    assert base.kept  # looked up once, with a pass of its own
    run = base.run
    base.run = lambda inputs, *rest: (found.append(inputs.shape[0] * inputs.shape[1]), run(inputs, *rest))[1]
    return found


def test_a_beginning_that_all_rows_share_is_read_once(tiny: Path) -> None:
    text = chain(("a", 0, "norm"), ("b", 0, "norm")).replace("You are a.", "You are a. " + "Read with care. " * 9)
    program = make_program(text, tiny)
    exact = program.say(ROWS, engine="exact")
    base, agent = program.base("a"), program.plan.agent("a")
    from masc.backends.torch.model.prompts import prompt_ids

    ids = [prompt_ids(base, agent, row, i) for i, row in enumerate(ROWS)]
    shared = max(n for n in range(len(ids[0])) if len({tuple(one[:n]) for one in ids}) == 1)
    found = positions(program)
    said = program.say(ROWS)
    assert [row["answer"].ids for row in said] == [row["answer"].ids for row in exact]
    assert found[:2] == [shared, len(ROWS) * (max(map(len, ids)) - shared)]
    found.clear()
    dict(program.say_each(ROWS, 1))
    assert found.count(len(ids[0])) == 1, "the first row is read as a whole"
    assert shared in found, "by the second one it is known what they share"
    found.clear()
    program.say(ROWS[:1])
    assert found[0] == len(ids[0]), "one row shares nothing with others"


def test_rows_that_begin_otherwise_are_read_as_a_whole(tiny: Path) -> None:
    program = make_program(
        chain(("a", 1, "norm"), ("b", 0, "norm")).replace('system "You are a."', 'system "{q}"'), tiny
    )
    rows = [{"q": "the same for a while, " * 4 + end} for end in "xyz"] + [
        {"q": "another"},
        {"q": "the same for a while z."},
    ]
    exact = program.say(rows, engine="exact")
    said = dict(program.say_each(rows, 3))
    assert [said[i]["answer"].ids for i in range(len(rows))] == [row["answer"].ids for row in exact]
