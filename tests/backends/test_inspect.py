"""What is found inside a team is what a plain pass of the model holds, and all attention is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS
from masc.backends.torch.build import build
from masc.backends.torch.engine.history import History
from masc.backends.torch.probing.inspect import inspect
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source
from support import ROWS, compile_plan, wake

PLAIN = """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 3 adapt none answer (max_tokens = 2) }
agent b on m { user "then {q}?" adapt none answer (max_tokens = 4) }
graph g(q) -> first, answer { a -> first  a -> b : kv  b -> answer }
"""


def opened(text: str, tiny: Path, **options: Any) -> Any:
    """A program that knows the file that it was compiled from."""
    named = text.replace("MODEL", f'"{tiny}"').replace("OTHER", f'"{tiny.parent / "other"}"')
    compilation = compile_source(Source(str(tiny.parent / "test.mas"), named), base=tiny.parent, **options)
    program = build(compilation.require(), tiny.parent, dtype="float32", device="cpu", history=History(compilation))
    wake(program)
    return program


def test_it_holds_what_a_plain_pass_holds(tiny: Path) -> None:
    """Two agents without adapters, one seeing all of the other, are one sequence: transformers' eager attention over
    it, summed by hand, its hidden states through norm and head, its scores."""
    program = opened(PLAIN, tiny)
    program.train()
    found = inspect(program, ROWS[2], layers=(1, "last"), top=3, output="answer")
    assert program.training
    first, second = found.team.activations
    trace = program.trace([ROWS[2]])
    base, said = program.base("a"), [one.id for one in second.spoken]
    assert base.text(said) == found.team.answer == trace.answers[0]["answer"]
    assert [token.id for token in first.prompt] == list(trace["a#1"].ids[0])
    told = [one.id for one in first.spoken]  # read to its end: b looks at it
    columns = [len(first.prompt), 3, len(told), len(second.prompt), len(said) - 1]
    ids = [torch.tensor([list(part)]) for part in (trace["a#1"].ids[0], told, trace["b#1"].ids[0], said[:-1])]
    parts = [base.embed(part) for part in ids]
    parts.insert(1, trace["a#1"].latents)
    base.model.set_attn_implementation("eager")
    with torch.no_grad():
        out = base.model(inputs_embeds=torch.cat(parts, 1), output_attentions=True, output_hidden_states=True)
    base.model.set_attn_implementation("masc")
    ends = torch.tensor(columns).cumsum(0).tolist()
    spans = dict(zip(["prompt", "latents", "said", "its", "answer"], zip([0, *ends], ends, strict=False), strict=True))

    queries = {"prompt": spans["its"], "answer": (ends[3] - 1, ends[4])}
    assert [(s.activation, s.part, s.positions) for s in second.sources] == [
        ("a#1", "prompt", columns[0]),
        ("a#1", "latents", 3),
        ("a#1", "answer", len(told)),
        ("b#1", "prompt", columns[3]),
        ("b#1", "answer", columns[4]),
    ]
    assert all(s.kind == "kv" and s.via == ("a",) for s in second.sources[:3])
    for heat in second.heats:
        rows = slice(*queries[heat.queries])
        by_hand = [
            [float(weights[0, :, rows, low:high].sum(-1).mean()) for low, high in spans.values()]
            for weights in out.attentions
        ]
        torch.testing.assert_close(torch.tensor(heat.shares), torch.tensor(by_hand), atol=1e-5, rtol=1e-4)
    assert {heat.queries for heat in second.heats} == queries.keys()

    for latent, where in zip(first.latents, range(*spans["latents"]), strict=True):
        assert latent.position == where
        assert latent.norm == pytest.approx(1, abs=1e-3)  # align = norm
        assert [depth.layer for depth in latent.depths] == [1, 2]
        deep = latent.depths[1]
        share = out.logits[0, where].softmax(-1)
        assert [(word.id, round(word.near, 4)) for word in deep.words] == [
            (int(i), round(float(share[i]), 4)) for i in share.argsort(descending=True)[:3]
        ]
        assert deep.entropy == pytest.approx(float(torch.special.entr(share).sum()), abs=1e-3)
        early = base.model.model.norm(out.hidden_states[2][0, where - 1 : where + 1])
        likeliest = base.model.lm_head(early[1]).softmax(-1).max()
        assert latent.depths[0].words[0].near == pytest.approx(float(likeliest), abs=1e-4)
        drift = 1 - float(torch.cosine_similarity(early[0], early[1], dim=0))
        assert latent.depths[0].drift == pytest.approx(drift, abs=1e-4)
        assert latent.depths[0].norm == pytest.approx(float(out.hidden_states[2][0, where].norm()), rel=1e-3)
    logs = out.logits[0, ends[3] - 1 :].log_softmax(-1)
    for i, one in enumerate(second.spoken):
        assert one.log_probability == pytest.approx(float(logs[i, one.id]), abs=1e-3)
    assert found.team.log_likelihood == pytest.approx(sum(one.log_probability for one in second.spoken), abs=1e-3)


def test_each_edge_is_cut_alone_and_what_is_said_behind_it_is_said_anew(tiny: Path) -> None:
    """Against the plan with the edge cut: the answer stays, the words between agents do not."""
    text = GRAPHS["text beside keys and values"]
    program = opened(text, tiny)
    found = inspect(program, ROWS[0], answer="yes", text=False)
    (edge,) = found.team.edges
    assert (edge.sender, edge.receiver, edge.kinds) == ("a", "b", ("text", "kv", "hidden"))
    ids = [one.id for one in found.team.activations[1].spoken]
    assert (found.team.answer, found.team.given) == ("yes", True)
    assert f"{edge.change:+.3f} nats\n" in found._repr_html_(), "a notebook shows it in words"
    with torch.no_grad():
        whole = float(program.score([ROWS[0]], [ids]).sum())
        with program.running(compile_plan(text, tiny, cut=(("a", "b"),))):
            cut = float(program.score([ROWS[0]], [ids]).sum())
    assert found.team.log_likelihood == pytest.approx(whole, abs=1e-4)
    assert edge.log_likelihood == pytest.approx(cut, abs=1e-4)
    assert edge.change == pytest.approx(cut - whole, abs=1e-4)
    assert abs(edge.change) > 1e-3
    receiver = found.team.activations[1]
    arrived = {source.kind: source for source in receiver.sources if source.part == "arrived"}
    assert arrived.keys() == {"text", "hidden"}
    assert all(source.activation == "a#1" for source in arrived.values())
    heard = [token.id for token in receiver.prompt if token.kind == "text"]
    assert heard == program.base("b").characters.code([(found.team.activations[0].said, False)]).ids
    assert [token.id for token in receiver.prompt if token.kind == "hidden"] == [None] * arrived["hidden"].positions


@pytest.mark.parametrize("name", ["gates in rounds", "fuse of what was fused"])
def test_all_attention_is_accounted_for(name: str, tiny: Path) -> None:
    program = opened(GRAPHS[name], tiny)
    found = inspect(program, ROWS[1], layers=(0, 2, "last"), text=False)
    assert [one.activation for one in found.team.activations] == [turn.activation for turn in program.plan.turns]
    for one in found.team.activations:
        count = program.base(one.agent).layers
        for heat in one.heats:
            assert heat.layers == tuple(range(count))
            shares = torch.tensor(heat.shares)
            assert shares.shape == (count, len(one.sources))
            assert bool((shares >= 0).all())
            torch.testing.assert_close(shares.sum(1), torch.ones(count), atol=1e-5, rtol=0)
        for latent in one.latents:
            assert [depth.layer for depth in latent.depths] == sorted({0, 2, count - 1})
    kinds = {source.kind for one in found.team.activations for source in one.sources} - {""}
    assert kinds == {edge.kind for edge in found.graph.edges}
    json.dumps(found.json(), allow_nan=False)


def test_the_text_team_beside_it_is_the_text_channel(tiny: Path) -> None:
    program, words = opened(PLAIN, tiny), opened(PLAIN, tiny, channel="text")
    found = inspect(program, ROWS[0], output="answer")
    assert found.text is not None
    assert [found.text.answers] == words.generate([ROWS[0]], engine="exact")
    assert not any(one.latents for one in found.text.activations)
    alone = inspect(words, ROWS[0], output="answer")
    assert alone.text is None, "it is that already"
    assert alone.team.edges == found.text.edges


def test_what_cannot_be_looked_at(tiny: Path) -> None:
    program = opened(PLAIN, tiny)
    with pytest.raises(MascError, match="no layer 3"):
        inspect(program, ROWS[0], layers=(3,))
    with pytest.raises(MascError, match="no output `anser`"):
        inspect(program, ROWS[0], output="anser")
    with pytest.raises(MascError, match="no column `q`"):
        inspect(program, {"x": "y"})
    with pytest.raises(ValueError, match="edges are cut"):
        inspect(opened(PLAIN, tiny, cut=(("a", "b"),)), ROWS[0])
