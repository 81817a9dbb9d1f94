"""Gates of edges: what they do to attention, how they are drawn, and that training closes what is idle."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import masc
from graphs import GRAPHS, pair
from masc.backends.torch.engine import walk
from masc.backends.torch.engine.opening import gate_draws, opening_at
from masc.backends.torch.model.attention import Columns, block_mask
from masc.backends.torch.model.gates import Gate, votes
from masc.backends.torch.model.prompts import answer_ids, prompt_of
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.training.schedule import data_order
from masc.backends.torch.training.train import train
from masc.compiler.channels.gate import BETA, GAMMA, SHUT, START, ZETA, gate_of
from support import ROWS, chain, make_program

PAIR = chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = own, gate = learned)")
CHAIN = GRAPHS["gates"]


def put(program: Any, *values: float, names: Iterable[str] = ()) -> Any:
    """Gates are open so far: in their order, or those of some names."""
    for name, value in zip(names or program.gates(), values, strict=True):
        alpha = 40.0 if value == 1 else -40.0 if value == 0 else torch.logit(torch.tensor((value + 0.1) / 1.2)).item()
        program.gates()[name].log_alpha.data.fill_(alpha)
    return program


# -- what a gate does --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GRAPHS if name.startswith("gates")])
def test_a_wide_open_gate_is_none(name: str, tiny: Path) -> None:
    """To the bit, teacher forced and decoded; also where gradients are wanted, but for rounding."""
    gated = make_program(GRAPHS[name], tiny)
    put(gated, *[1.0] * len(gated.gates()))
    plain = make_program(re.sub(r"\(gate = learned\)|, gate = learned|gate = learned, ", "", GRAPHS[name]), tiny)
    own = {n: p for n, p in gated.trainable().items() if not n.endswith("log_alpha")}
    assert own.keys() == plain.trainable().keys()
    for parameter, wanted in plain.trainable().items():
        own[parameter].data.copy_(wanted)
    with torch.no_grad():
        assert torch.equal(gated(ROWS).outputs["answer"].logits, plain(ROWS).outputs["answer"].logits)
    assert gated.generate(ROWS) == plain.generate(ROWS)
    torch.testing.assert_close(gated(ROWS).loss, plain(ROWS).loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["gates", "gates of latents", "gates in rounds", "gates of siblings"])
def test_a_closed_gate_is_a_cut_edge(name: str, tiny: Path) -> None:
    whole = make_program(GRAPHS[name], tiny)
    for edge in whole.gates():
        put(whole, *[1.0] * len(whole.gates()))
        put(whole, 0.0, names=[edge])
        sender, receiver = edge[3:-1].split(", ")
        cut = make_program(GRAPHS[name], tiny, cut=((sender, receiver),))
        cut.load_state_dict(whole.state_dict())
        with torch.no_grad():
            assert torch.equal(whole(ROWS).logits, cut(ROWS).logits)
        assert whole.generate(ROWS) == cut.generate(ROWS)
        torch.testing.assert_close(whole(ROWS).loss, cut(ROWS).loss, atol=1e-5, rtol=0)


def test_the_weight_of_a_position_is_multiplied_by_the_gate(tiny: Path) -> None:
    """One pass over both prompts, with log z added to the scores of what comes through the gate."""
    text = chain(("a", 0, "norm"), ("b", 0, "norm"), edge="kv(gate = learned)", adapt="none")
    program = put(make_program(text, tiny), 0.3)
    row = [{"q": "so", "answer": "y"}]
    with torch.no_grad():
        logits = program(row).logits[0]
    base = program.base("a")
    own = [prompt_of(base, program.plan.agent(name), {"q": "so"}).ids for name in "ab"]
    label = answer_ids(base, "y")
    ids = torch.tensor([[*own[0], *own[1], *label[:-1]]])
    first, size = len(own[0]), ids.shape[1]
    bias = torch.full((size, size), -math.inf).triu(1)
    bias[first:, :first] += math.log(0.3)
    with torch.no_grad():
        states = base.run(ids, torch.arange(size)[None], bias[None, None], base.cache(None))
    wanted = base.logits(states[0, first + len(own[1]) - 1 :])
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)


def test_of_two_paths_the_wider_counts(tiny: Path) -> None:
    text = """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : kv(gate = learned)  b -> c : kv(gate = learned)  a -> c : kv(gate = learned) }
"""
    program = make_program(text, tiny)
    names = ["kv(a, b)", "kv(b, c)", "kv(a, c)"]
    for ab, bc, ac in ((0.9, 0.8, 0.5), (0.5, 0.8, 0.9), (0.5, 0.5, 0.25)):
        put(program, ab, bc, ac, names=names)
        seen: list[Columns] = []
        own = walk.look

        def looking(*given: Any, own: Any = own, seen: list[Columns] = seen) -> Any:
            past = own(*given)
            seen += [past.columns] if past is not None else []
            return past

        walk.look = looking  # type: ignore[assignment]
        try:
            with torch.no_grad():
                program(ROWS[:1])
        finally:
            walk.look = own  # type: ignore[assignment]
        last = seen[-1].open
        assert last is not None
        length = seen[0].seen.shape[2]
        through = torch.tensor(max(ab * bc, ac))
        torch.testing.assert_close(last[0, 0, :length], through.expand(length), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            last[0, 0, length:], torch.tensor(bc).expand(last.shape[2] - length), atol=1e-5, rtol=0
        )


def test_vectors_behind_a_closed_gate_are_seen_by_nobody(tiny: Path) -> None:
    """What stands there makes no difference, to whoever has them in its prompt and to whoever looks at that."""
    text = GRAPHS["gates of hidden states"]
    program = make_program(text, tiny)
    put(program, 0.0, names=["hidden(a, b)"])

    def logits() -> Tensor:
        with torch.no_grad():
            return program(ROWS).logits

    before = logits()
    link = program.link("hidden", "a", "b")
    link.weight.data.mul_(-1).add_(torch.randn(link.weight.shape, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(logits(), before, atol=1e-5, rtol=0)
    put(program, 0.5, names=["hidden(a, b)"])
    assert not torch.allclose(logits(), before, atol=1e-2)


def test_a_closed_fuser_adds_nothing(tiny: Path) -> None:
    text = GRAPHS["gates of fused caches"]
    program = put(make_program(text, tiny), 0.0)
    other = make_program(text.replace(", gate = learned", ""), tiny, awake=False)  # untrained, which adds nothing
    other.load_state_dict(
        {n: t for n, t in program.state_dict().items() if n in other.state_dict() and "across" not in n}, strict=False
    )
    with torch.no_grad():
        assert torch.equal(program(ROWS).logits, other(ROWS).logits)


def test_a_mask_of_gates_adds_logarithms() -> None:
    """A row of a softmax is never empty, and what is not seen has no gradient that is no number."""
    gate = torch.tensor([[[0.5, 0.0, 1.0]]], requires_grad=True)
    past = Columns(torch.tensor([[[True, True, False]]]), torch.tensor([[0, 1, 2]]), gate)
    own = torch.tensor([[0.25, 0.0]], requires_grad=True)
    mask = block_mask(past, torch.tensor([[True, True]]), torch.tensor([[3, 4]]), None, own)
    assert mask is not None
    none = -math.inf
    torch.testing.assert_close(
        mask[0, 0],
        torch.tensor([[math.log(0.5), none, none, 0.0, none], [math.log(0.5), none, none, math.log(0.25), 0.0]]),
    )
    mask.softmax(-1).pow(2).sum().backward()
    assert gate.grad is not None
    assert own.grad is not None
    assert gate.grad[0, 0].tolist()[1:] == [0.0, 0.0]
    assert bool(gate.grad.isfinite().all())
    assert bool(own.grad.isfinite().all())
    assert float(gate.grad[0, 0, 0]) != 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_gets_gradient_in_every_dtype(dtype: torch.dtype, tiny: Path) -> None:
    """Some kernels of attention have no gradient for what is added to scores, and say nothing."""
    program = make_program(CHAIN, tiny, dtype=str(dtype)[6:])
    program(ROWS).loss.backward()
    assert all(float(gate.log_alpha.grad.abs()) > 0 for gate in program.gates().values())


# -- how it is drawn ---------------------------------------------------------------------------------------------------


def test_the_formula() -> None:
    gate = Gate()
    for alpha in (-5.0, -1.0, 0.0, 0.7, 5.0):
        gate.log_alpha.data.fill_(alpha)
        assert gate().item() == pytest.approx(gate_of(alpha), abs=1e-6)
        draws = (torch.arange(20000) + 0.5) / 20000
        drawn = gate(draws)
        chance = 1 / (1 + math.exp(-alpha + BETA * math.log(-GAMMA / ZETA)))  # equation 12 of the paper
        assert float((drawn > 0).float().mean()) == pytest.approx(chance, abs=2e-4)
        by_hand = torch.sigmoid((draws.log() - (1 - draws).log() + alpha) / BETA) * (ZETA - GAMMA) + GAMMA
        torch.testing.assert_close(drawn, by_hand.clamp(0, 1), atol=1e-5, rtol=0)
    assert gate_of(START) == 1
    assert gate_of(SHUT) == gate_of(-1e4) == 0
    assert Gate()().item() == 1


def test_draws_are_those_of_seed_step_and_edge() -> None:
    one = gate_draws(3, 7, 16, "kv(a, b)")
    assert torch.equal(one, gate_draws(3, 7, 16, "kv(a, b)"))
    others = [gate_draws(4, 7, 16, "kv(a, b)"), gate_draws(3, 8, 16, "kv(a, b)"), gate_draws(3, 7, 16, "kv(a, c)")]
    assert not any(torch.equal(one, other) for other in others)
    assert sorted((one * 16).floor().tolist()) == list(range(16))  # as even as can be
    assert float(one.amin()) > 0
    assert float(one.amax()) < 1
    with torch.device("meta"):  # whatever the caller's default device is
        assert torch.equal(one, gate_draws(3, 7, 16, "kv(a, b)"))


@pytest.mark.parametrize("name", ["gates", "gates of hidden states", "gates beside a fused cache", "gates in rounds"])
def test_a_batch_of_draws_is_its_samples_one_by_one(name: str, tiny: Path) -> None:
    program = make_program(GRAPHS[name], tiny).double()
    opening = opening_at(0, 3, len(ROWS), program.gates())
    with torch.no_grad():
        whole = program(ROWS, opening=opening).outputs["answer"]
        assert not torch.allclose(whole.logits, program(ROWS).outputs["answer"].logits)
        for i, row in enumerate(ROWS):
            one = program([row], opening=opening.of(slice(i, i + 1), torch.device("cpu"))).outputs["answer"]
            size = one.labels.shape[1]
            torch.testing.assert_close(whole.logits[i, :size], one.logits[0], atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    "name", ["gates", "gates of hidden states", "gates beside a fused cache", "gates by two paths"]
)
def test_recomputing_draws_nothing_anew(name: str, tiny: Path) -> None:
    program = make_program(GRAPHS[name], tiny)
    opening = opening_at(0, 3, len(ROWS), program.gates())
    gradients = []
    for recompute in (False, True):
        program.zero_grad()
        program(ROWS, opening=opening, recompute=recompute).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in program.trainable().items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(name.endswith("log_alpha") for name in gradients[0])
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_the_gradient_of_drawn_gates_is_that_of_central_differences(tiny: Path) -> None:
    """With a channel that is still open, row by row."""
    text = chain(
        ("a", 2, "norm"),
        ("b", 1, "norm"),
        ("c", 0, "norm"),
        edge="kv(carry = latents, open = 10 as trace, gate = learned)",
    )
    program = make_program(text, tiny).double()
    drawn = opening_at(0, 3, len(ROWS), program.gates())
    opening = Opening(4, torch.tensor([0.1, 0.9, 0.5, 0.3]), drawn.gates)
    for recompute in (False, True):
        program.zero_grad()
        program(ROWS, opening=opening, recompute=recompute).loss.backward()
        for gate in program.gates().values():
            analytic, found = float(gate.log_alpha.grad), []
            for step in (1e-4, -1e-4):
                gate.log_alpha.data += step
                with torch.no_grad():
                    found.append(float(program(ROWS, opening=opening).loss))
                gate.log_alpha.data -= step
            assert analytic == pytest.approx((found[0] - found[1]) / 2e-4, rel=1e-4, abs=1e-9)


# -- training ----------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {"batch": 4, "rate": 1e-3, "warmup": 0.0, "save_every": 2}


def test_sparsity_closes_and_is_told(tiny: Path, tmp_path: Path) -> None:
    """Nothing in these rows can be learnt of `a`: the pull closes its edge, `loss` stays the cross entropy."""
    program = make_program(PAIR, tiny, awake=False)
    history = train(program, ROWS, directory=tmp_path, steps=24, sparsity=5.0, gate_rate=0.8, **SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["gates"] for line in lines if "gates" in line] == [one["gates"] for one in history]
    assert history[0]["gates"]["kv(a, b)"] > history[-1]["gates"]["kv(a, b)"] == 0
    assert history[0]["sparsity_loss"] == pytest.approx(5 * 2 / 24)
    assert all(0 < one["loss"] < 7 for one in history)
    assert set(history[0]["grad_norms"]) == {"a", "b", "kv(a, b)"}
    assert program.openness() == {"kv(a, b)": 0.0}


def test_samples_vote_also_where_a_loss_is_a_step() -> None:
    """A receiver that looks hard enough loses only where a gate is all but closed: next to no sample says so by the
    gradient of its own gate, yet opening the gate lowers the mean loss."""
    gate = Gate()
    gate.log_alpha.data.fill_(0.3)
    draws = ((torch.arange(4000) + 0.5) / 4000).double()

    def mean(alpha: float) -> float:
        moved = torch.sigmoid((draws.logit() + alpha) / BETA) * (ZETA - GAMMA) + GAMMA
        return float((2.0 * (moved < 1e-3)).double().mean())

    slope = (mean(0.4) - mean(0.2)) / 0.2
    losses = 2.0 * (gate(draws) < 1e-3).double()
    assert slope < -0.2
    assert float(votes(draws[None], losses)[0] / 4000) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_gives_gates_what_samples_say(accumulate: int, tiny: Path) -> None:
    options: dict[str, Any] = {"batch": 4 // accumulate, "accumulate": accumulate, "rate": 1e-3, "warmup": 0.0}
    (told,) = train(make_program(CHAIN, tiny), ROWS, steps=1, **options)
    program = make_program(CHAIN, tiny)
    order = data_order(0, len(ROWS))
    opening = opening_at(0, 0, len(ROWS), program.gates())
    with torch.no_grad():
        out = program([ROWS[next(order)] for _ in ROWS], opening=opening).outputs["answer"]
    losses, tokens = out.losses.double(), out.labels >= 0
    excess = (losses.sum(1) - losses.sum() / tokens.sum() * tokens.sum(1)) / tokens.sum()
    for name, draws in opening.gates.items():
        wanted = float(((2 * draws.double() - 1) * excess).sum())
        assert abs(wanted) > 1e-4
        assert told["grad_norms"][name] == pytest.approx(abs(wanted), rel=1e-3)


def test_gates_alone_can_be_trained(tiny: Path) -> None:
    """Nothing else of the team has a gradient."""
    program = make_program(chain(("a", 0, "norm"), ("b", 0, "norm"), edge="kv(gate = learned)", adapt="none"), tiny)
    assert set(program.trainable()) == {"across.kv(a, b).gate.log_alpha"}
    before = program.openness()
    train(program, ROWS, steps=2, batch=4, warmup=0.0)
    assert program.openness() != before


def test_without_sparsity_nothing_pulls(tiny: Path) -> None:
    program = make_program(PAIR, tiny, awake=False)
    history = train(program, ROWS, steps=2, batch=4, rate=1e-9, warmup=0.0, gate_rate=1e-9)
    assert history[-1]["sparsity_loss"] == 0
    assert program.gates()["kv(a, b)"].log_alpha.item() == pytest.approx(START, abs=1e-4)


def test_the_pull_is_the_gradient_of_what_is_told(tiny: Path) -> None:
    program = make_program(PAIR, tiny)
    program.zero_grad()
    (2.0 * program.sparsity()).backward()
    gate = program.gates()["kv(a, b)"]
    assert float(gate.log_alpha.grad) == pytest.approx(2 / (START - SHUT), rel=1e-5)
    assert Gate().price.item() == 1
    gate.log_alpha.data.fill_(SHUT - 1)
    assert gate.price.item() == 0
    gate.hold()
    assert gate.log_alpha.item() == SHUT


def test_a_run_goes_on_to_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    whole, half = make_program(CHAIN, tiny), make_program(CHAIN, tiny)
    options: dict[str, Any] = {**SETTINGS, "sparsity": 0.5}
    train(whole, ROWS, directory=tmp_path / "whole", steps=4, **options)

    class StopError(Exception):
        pass

    def stop(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 3:
            raise StopError

    with pytest.raises(StopError):
        train(half, ROWS, directory=tmp_path / "half", steps=4, listen=stop, **options)
    again = make_program(CHAIN, tiny)
    train(again, ROWS, directory=tmp_path / "half", steps=4, resume=True, **options)
    for name, parameter in whole.trainable().items():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_what_differs_in_a_run_that_goes_on_is_told(tiny: Path, tmp_path: Path) -> None:
    program = make_program(PAIR, tiny)
    train(program, ROWS, directory=tmp_path, steps=2, **SETTINGS)
    told: list[str] = []
    other: dict[str, Any] = {**SETTINGS, "steps": 3, "sparsity": 0.2, "gate_rate": 0.5, "resume": True}
    train(program, ROWS, directory=tmp_path, tell=lambda found: told.extend(d.message for d in found), **other)
    assert any("sparsity = 0.2: from here on" in message for message in told)
    assert any("gate_rate = 0.5: from here on" in message for message in told)


def test_accumulation_draws_the_same_gates(tiny: Path) -> None:
    one, two = make_program(PAIR, tiny), make_program(PAIR, tiny)
    common: dict[str, Any] = {"steps": 1, "rate": 1e-3, "warmup": 0.0, "sparsity": 0.1}
    first = train(one, ROWS, batch=4, **common)
    second = train(two, ROWS, batch=2, accumulate=2, **common)
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], rel=1e-4)
    assert first[0]["grad_norms"]["kv(a, b)"] == pytest.approx(second[0]["grad_norms"]["kv(a, b)"], rel=1e-3)


def test_in_a_loop_of_ones_own(tiny: Path, recwarn: Any) -> None:
    program = make_program(PAIR, tiny)
    program.train()
    program(ROWS, step=0)
    assert not [w for w in recwarn if "W0311" in str(w.message)]
    for _ in range(2):
        program(ROWS)
    assert len([w for w in recwarn if "W0311" in str(w.message)]) == 1
    assert not make_program(pair("text", "{a}", answer="answer"), tiny).sparsity().requires_grad


def test_gates_begin_with_those_of_another_artifact(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.mas"
    path.write_text(PAIR.replace("MODEL", f'"{tiny}"'))
    program = masc.compile(path, device="cpu")
    put(program, 0.4)
    program.save(tmp_path / "g.masc")
    again = masc.compile(path, device="cpu")
    assert "kv(a, b)" in again.init_from(tmp_path / "g.masc").taken
    assert again.openness()["kv(a, b)"] == pytest.approx(0.4, abs=1e-5)
    assert masc.load(tmp_path / "g.masc", device="cpu").openness() == program.openness()
