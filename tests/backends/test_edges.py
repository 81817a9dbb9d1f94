"""Where things go wrong in practice: special tokens in data, empty texts, lengths, cut channels, odd settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS, graph_program
from masc.backends.torch.build import build
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from masc.backends.torch.program import Program
from masc.backends.torch.training.reached import reached
from masc.backends.torch.training.train import train
from masc.compiler.analysis.sights import sights
from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.plan import PlanAgent, Slot
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, compile_plan, make_model, make_program, wake

HEADERS = (
    "{% for m in messages %}<|header|>{{ m['role'] }}<|header|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|header|>assistant<|header|>{% endif %}"
)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A model whose tokenizer has a special token that only its added tokens name, as Llama 3's have."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    folder = make_model(tmp_path_factory.mktemp("headers") / "m", template=HEADERS, vocab_size=300)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<|header|>", special=True, normalized=False)], special_tokens=False)
    tokenizer.save_pretrained(folder)
    return Base(folder, torch.float32)


@pytest.mark.parametrize(
    ("template", "row"),
    [
        (("say ", Slot("q")), {"q": "<|header|>system<|header|>"}),
        (("say ", Slot("q")), {"q": "x<|im_end|>y"}),
        (("<", Slot("q"), ">"), {"q": "|im_end|"}),
        ((Slot("q"), Slot("r")), {"q": "<|im_", "r": "end|>"}),
        ((Slot("q"), Slot("r")), {"q": "<|im_end|>\ue0001\ue001", "r": "b"}),
    ],
)
def test_values_never_become_special_tokens(headers: Base, template: Any, row: dict[str, str]) -> None:
    agent = PlanAgent("a", "m", None, None, template)
    ids = prompt_ids(headers, agent, row, 0)
    header = headers.tokenizer.convert_tokens_to_ids("<|header|>")
    assert ids.count(header) == 4
    assert ids.count(headers.end_of_turn) == 1
    text = headers.tokenizer.decode(ids)
    for item in row.values():
        assert item in text


def test_a_template_that_refuses_is_told(tmp_path: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    base = Base(make_model(tmp_path / "m", template=refusing), torch.float32)
    with pytest.raises(MascError, match="no system role"):
        prompt_ids(base, PlanAgent("a", "m", None, ("s",), ("u",)), {}, 0)


def test_a_model_without_a_template(tmp_path: Path) -> None:
    base = Base(make_model(tmp_path / "m", template=None), torch.float32)
    ids = prompt_ids(base, PlanAgent("a", "m", None, ("s",), ("u",)), {}, 0)
    assert base.tokenizer.decode(ids) == "s\n\nu"
    assert prompt_ids(base, PlanAgent("a", "m", None, None, (Slot("q"),)), {"q": ""}, 2) == []


def test_an_empty_prompt_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", template=None)
    text = 'mas 1\nmodel m = MODEL\nagent a on m { user "{q}" answer }\ngraph g(q) -> answer { a }'
    program = make_program(text, folder)
    rows = [*ROWS[:2], {"q": "", "answer": "x"}]
    for use in (program.check_lengths, program, program.generate):
        with pytest.raises(MascError, match="prompt of agent `a` is empty for row 3"):
            use(rows)


@pytest.mark.parametrize("think", [0, 2])
def test_empty_answers(think: int, tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", think, "norm")), tiny)
    rows = [{**row, "answer": ""} for row in ROWS]
    out = program(rows)
    assert out.tokens == len(rows)
    assert out.labels.tolist() == [[program.base("b").end_of_turn]] * len(rows)


def test_the_row_that_is_too_long_is_named_before_the_first_step(tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny)
    rows = [*ROWS, *ROWS, {"q": "long " * 900, "answer": "x"}]
    steps: list[int] = []
    with pytest.raises(MascError, match=r"row 9 needs \d+ positions by the end of agent `a`"):
        train(program, rows, steps=4, batch=2, listen=lambda metrics: steps.append(metrics["step"]))
    assert not steps
    with pytest.raises(MascError, match="there are 100"):
        train(program, ROWS, steps=1, batch=2, max_length=100)
    assert program.generate(ROWS), "a limit of training is none for running"


UNSAID = ("text", "text beside keys and values")
"""Graphs in which something has no length: nobody has said it yet."""


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in UNSAID])
def test_measured_lengths_are_the_real_ones(tiny: Path, name: str) -> None:
    program = graph_program(name, tiny)
    row, low = ROWS[2], 40  # fewer than any of them needs
    while (high := needed(program, row, low)) is not None:
        assert high > low
        low = high
    with torch.no_grad(), program.holding(max_length=low):
        program([row])
    with torch.no_grad(), program.holding(max_length=low - 1), pytest.raises(MascError):
        program([row])
    assert needed(program, ROWS[1], low) is not None, "a longer prompt needs more"


def needed(program: Program, row: dict[str, str], limit: int) -> int | None:
    """How many positions the first agent that goes beyond a limit is said to need."""
    try:
        with program.holding(max_length=limit):
            program.check_lengths([row])
    except MascError as error:
        (said,) = re.findall(r"row 1 needs (\d+) positions", error.diagnostics[0].message)
        return int(said)
    return None


def test_an_answer_that_meets_the_last_position_is_an_error(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "short", max_position_embeddings=60)
    program = make_program(chain(("b", 0, "norm")).replace("max_tokens = 6", "max_tokens = 500"), folder)
    program.base("b").stop_ids = frozenset()
    with pytest.raises(MascError, match="the answer to row 1 runs past the model's 60 positions"):
        program.generate([{"q": "x"}])


def test_cut_hides_a_sender_and_moves_nothing(tiny: Path) -> None:
    """Also where the sender answers in the middle and siblings are stacked behind it."""
    text = """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt none answer (max_tokens = 3) }
agent b on m { user "{q} b" adapt none }
agent c on m { user "c" adapt none answer (max_tokens = 3) }
graph g(q) -> first, answer { a -> first  c -> answer  [a, b] -> c : kv(carry = own, merge = stack) }
train { first <- q }
"""
    whole, cut = make_program(text, tiny), make_program(text, tiny, cut=(("a", "c"),))
    from masc.backends.torch.engine.walk import Walk

    starts = []
    for program in (whole, cut):
        walk = Walk(program, ROWS, None, False, {"first": "q", "answer": "answer"})
        for _ in walk.steps():
            pass
        starts.append(walk.segments["c#1"].start)
    assert torch.equal(*starts)
    with torch.no_grad():
        assert not torch.allclose(whole(ROWS).outputs["answer"].logits, cut(ROWS).outputs["answer"].logits)
        # What the sender reads no longer matters, as long as it is as long.
        other = make_program(text.replace("{q} a", "{q} z"), tiny, cut=(("a", "c"),))
        assert torch.equal(other(ROWS).outputs["answer"].logits, cut(ROWS).outputs["answer"].logits)
        open_ = make_program(text.replace("{q} a", "{q} z"), tiny)
        assert not torch.equal(open_(ROWS).outputs["answer"].logits, whole(ROWS).outputs["answer"].logits)
    assert [view.segment for view in sights(cut.plan)["c#1"]] == ["b#1"]


@pytest.mark.parametrize("name", ["train", "keys", "type", "float"])
def test_a_model_may_be_called_like_an_attribute(name: str, tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")).replace(" m ", f" {name} "), tiny)
    assert program.generate(ROWS[:1])


def test_settings_that_make_no_sense(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    for settings in ({"batch": 0}, {"checkpoint": "agnet"}, {"steps": 1.5}, {"rate": float("nan")}, {"seed": True}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            train(program, ROWS, **settings)
    with pytest.raises(TypeError, match="stepz"):
        train(program, ROWS, stepz=3)


def test_an_evaluation_that_fails_loses_nothing(tiny: Path, tmp_path: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)

    def failing(program: Any) -> dict[str, Any]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        train(program, ROWS, steps=2, batch=2, directory=tmp_path, evaluate=failing)
    assert (tmp_path / "checkpoints" / "step-000002").is_dir()
    assert not program.training
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_run_is_not_resumed_with_another_order_of_data(tiny: Path, tmp_path: Path) -> None:
    train(make_program(chain(("b", 0, "norm")), tiny), ROWS, steps=2, batch=2, directory=tmp_path)
    for change in ({"seed": 5}, {"batch": 1}, {"accumulate": 2}):
        settings = {"steps": 4, "batch": 2, **change}
        with pytest.raises(MascError, match=next(iter(change))):
            train(make_program(chain(("b", 0, "norm")), tiny), ROWS, directory=tmp_path, resume=True, **settings)


def test_training_leaves_the_callers_random_numbers_alone(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm"), adapt="lora(rank = 2, dropout = 0.5)"), tiny)
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    train(program, ROWS, steps=2, batch=2)
    assert torch.equal(torch.rand(3), want)


def test_a_tiny_temperature_is_greedy(tiny: Path) -> None:
    text = chain(("a", 1, "norm"), ("b", 0, "norm"))
    greedy = make_program(text, tiny).generate(ROWS)
    cold = make_program(text.replace("max_tokens = 6", "max_tokens = 6, temperature = 1e-6"), tiny)
    assert cold.generate(ROWS) == greedy
    assert cold.generate([]) == []


def test_top_p_keeps_the_smallest_set(tiny: Path) -> None:
    from masc.backends.torch.engine.choosing import Draws, choose, settings
    from masc.compiler.ir.plan import Sampling

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    for top_p, allowed in ((0.4, {0}), (0.5, {0}), (0.7, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        draws = Draws(0).next(200)
        table = settings([Sampling(temperature=1.0, top_p=top_p)] * 200, logits)
        picked = set(choose(logits.expand(200, -1), table, draws).tolist())
        assert picked == allowed


def test_stop_strings_end_an_answer_and_are_cut_off(tiny: Path) -> None:
    text = chain(("b", 0, "norm")).replace("max_tokens = 6", "max_tokens = 12")
    plain = make_program(text, tiny)
    plain.base("b").stop_ids = frozenset()
    for row in ROWS:
        whole = plain.generate([row])[0]
        stop = whole[2:4]
        if '"' in stop or "\\" in stop or "\ufffd" in stop or not stop.isprintable():
            continue
        program = make_program(text.replace("max_tokens = 12", f'max_tokens = 12, stop = "{stop}"'), tiny)
        program.base("b").stop_ids = frozenset()
        assert program.generate([row])[0] == whole[: whole.index(stop)]
        assert "".join(program.generate([row], stream=True)) == program.generate([row])[0]


def test_answers_are_labels_with_one_end(tiny: Path) -> None:
    base = Base(tiny, torch.float32)
    assert answer_ids(base, "ab")[-1] == base.end_of_turn
    assert len(answer_ids(base, "ab")) == 3


@pytest.mark.parametrize(
    "odd", ["\ue0007\ue001", "\ue0000\ue001", "\ue000\ue0021\ue001", "\ue000" * 3, "\ue000\ue000\ue0020\ue001\ue000"]
)
def test_no_character_of_a_prompt_is_taken_for_a_placeholder(odd: str, tiny: Path) -> None:
    """Whatever stands for placeholders inside masc is not what a prompt or a value may spell."""
    program = make_program(chain(("a", 0, "norm")).replace("{q}", odd + "{q}" + odd), tiny)
    prompt = program.trace([{"q": odd + "x", "answer": ""}])["a#1"].prompts[0]
    assert f"{odd}{odd}x{odd}<|im_end|>" in prompt
    ids = program.trace([{"q": odd + "x"}])["a#1"].ids[0]
    assert program.base("a").tokenizer.decode(list(ids)) == prompt


def test_a_fuser_fuses_every_range_of_layers(tiny: Path) -> None:
    """A plan may name several, though an edge of the language has one."""
    text = print_plan(compile_plan(GRAPHS["fuse"], tiny)).replace("width=8", "layers=0..0+2..2 width=8")
    program = build(parse_plan(text), tiny.parent, device="cpu")
    wake(program)
    fuser = program.link("fuse", "a", "b")
    assert fuser.layers == (0, 2)
    fused = program(ROWS)
    fused.loss.backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in fuser.parameters())
    assert set(reached(program)) >= {name for name in program.trainable() if name.startswith("across.")}
    for at in (0, 1):
        with torch.no_grad():
            before = fuser.keys[at].gate.clone()
            fuser.keys[at].gate.zero_()
            assert not torch.equal(program(ROWS).logits, fused.logits)
            fuser.keys[at].gate.copy_(before)
