"""Two processes train as one does: the loss is the mean over the answer tokens of both, a reward's over their answers.

In float64: the rounds of a random model enlarge a rounding error so much that float32 tells nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from masc.backends.torch.proving.wide import widened
from masc.backends.torch.training.grpo import Grpo
from masc.backends.torch.training.sharding import asked, shard
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import MascError
from support import ROWS, make_program
from warm import heavy

TEXT = """
mas 1
model m = MODEL
model n = OTHER
agent t on n { user "teach {q}" think 1 adapt lora(rank = 2) }
agent a on m { user "a {q} {t}" think 1 (align = linear) adapt lora(rank = 4) answer }
agent b on m { user "b {q}" think 1 adapt lora(rank = 4) }
graph g(q) -> answer {
  t -> a : hidden(link = mlp)  t -> b : fuse(width = 4, gate = learned)
  repeat 2 { a -> b : kv(gate = learned)  b -> a : kv(carry = latents, open = 6) }
}
"""

REWARDED = """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) }
agent b on m { user "b {q}" adapt lora(rank = 4) answer (max_tokens = 3) }
graph g(q) -> answer { repeat 2 { a -> b : kv  b -> a : kv(carry = own) } }
"""

RUN = """
import json, os, signal, sys
from pathlib import Path
told, rewarded, tiny, out, helpers = sys.argv[1:]
sys.path.append(helpers)
other = os.fork()
signal.alarm(240)  # nobody waits for ever for one that is no more
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if other else "1"  # as `torchrun` does
import torch
torch.set_num_threads(1)
from support import ROWS, make_program
from masc.backends.torch.proving.wide import widened
from masc.backends.torch.training.grpo import Grpo
from masc.backends.torch.training.processes import Processes
from masc.backends.torch.training.sharding import frozen_bytes
from masc.backends.torch.training.train import train
def of_blocks(base):
    return sum(p.nbytes for p in base.model.get_decoder().layers.parameters() if not p.requires_grad)
exchanged, reduced = [], Processes.reduced
Processes.reduced = lambda self, *what: (exchanged.append(what), reduced(self, *what))[1]
program = make_program(told, Path(tiny), dtype="float64")
train(program, ROWS, steps=3, batch=2, rate=1e-3, warmup=0.0, sparsity=0.5, directory=out + "/told")
if other:
    (Path(out) / "exchanged.json").write_text(json.dumps(len(exchanged)))
program = make_program(rewarded, Path(tiny))
reward = Grpo(lambda said, gold, row: sum(map(ord, said)) % 7, group=2, kl=0.1, updates=2)
with widened(program):
    train(program, ROWS, steps=2, batch=1, rate=1e-3, warmup=0.0, objective=reward, directory=out + "/rewarded")
os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as `accelerate launch` says it
held = []
for checkpoint in ("none", "agent"):
    program = make_program(told, Path(tiny))
    blocks, whole = sum(map(of_blocks, program.models)), sum(map(frozen_bytes, program.models))
    settings = {"steps": 2, "batch": 2, "rate": 1e-3, "warmup": 0.0, "sparsity": 0.5, "checkpoint": checkpoint}
    with widened(program):
        train(program, ROWS, directory=f"{out}/shards-{checkpoint}", **settings)
        type(program).wide_open = True  # whatever its gates say
        assert not program.flows
        del type(program).wide_open
        held.append([whole - blocks, blocks, sum(map(frozen_bytes, program.models)) / 2])
if other:
    (Path(out) / "held.json").write_text(json.dumps(held))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


@pytest.fixture(scope="module")
def two(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have written: a run on told answers and one on a reward."""
    out = tmp_path_factory.mktemp("two")
    script = out / "run.py"
    script.write_text(RUN)
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env["ACCELERATE_USE_CPU"] = "true"
    done = heavy().call(TEXT, REWARDED, tiny, out, Path(__file__).parents[1] / "helpers", script=script, env=env)
    assert done.returncode == 0, done.stderr[-2000:].decode()
    return out


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(two: Path, tiny: Path) -> None:
    settings = {"steps": 3, "batch": 2, "accumulate": 2, "rate": 1e-3, "warmup": 0.0, "sparsity": 0.5}
    one = train(make_program(TEXT, tiny, dtype="float64"), ROWS, **settings)
    found = lines(two / "told")
    assert [m["step"] for m in found] == [1, 2, 3]
    for both, single in zip(found, one, strict=True):
        assert both["loss"] == pytest.approx(single["loss"], rel=1e-6)
        assert both["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-6)
        assert (both["tokens"], both["positions"]) == (single["tokens"], single["positions"])
        assert both["sparsity_loss"] == pytest.approx(single["sparsity_loss"], rel=1e-6)
        assert both["gates"] == pytest.approx(single["gates"], rel=1e-6)
        assert both["grad_norms"] == pytest.approx(single["grad_norms"], rel=1e-6, abs=1e-9)
        assert both["grad_norms_by_round"] == pytest.approx(single["grad_norms_by_round"], rel=1e-6, abs=1e-9)


def test_few_tensors_are_exchanged_one_by_one(two: Path) -> None:
    """In each of three steps: the loss, how many tokens and positions there are, the gates' gradient, and what each of
    five activations contributes to its adapter."""
    assert json.loads((two / "exchanged.json").read_text()) == 3 * (4 + 5)


def test_two_processes_equal_one_on_a_reward(two: Path, tiny: Path) -> None:
    """They sample the same answers; the second step is taken with weights that two steps of the optimiser made.
    Adapters are in float64 as well."""
    reward = Grpo(lambda said, gold, row: sum(map(ord, said)) % 7, group=2, kl=0.1, updates=2)
    program = make_program(REWARDED, tiny)
    with widened(program):
        one = train(program, ROWS, steps=2, batch=1, accumulate=2, rate=1e-3, warmup=0.0, objective=reward)
    for both, single in zip(lines(two / "rewarded"), one, strict=True):
        assert single["grad_norm"] > 0
        for name in ("reward", "reward_std", "without_signal", "kl", "length", "loss", "grad_norm", "tokens"):
            assert both[name] == pytest.approx(single[name], rel=1e-5, abs=1e-9), name
        assert both["grad_norms"] == pytest.approx(single["grad_norms"], rel=1e-5, abs=1e-9)
        assert both["grad_norms_by_round"] == pytest.approx(single["grad_norms_by_round"], rel=1e-5, abs=1e-9)
    assert one[1]["kl"] > 0


@pytest.mark.parametrize("checkpoint", ["none", "agent"])
def test_a_base_in_shards_changes_nothing(checkpoint: str, two: Path, tiny: Path) -> None:
    """Each process keeps half of the blocks, and gradients come to them through keys and values as well."""
    program = make_program(TEXT, tiny)
    settings = {"steps": 2, "batch": 2, "accumulate": 2, "rate": 1e-3, "warmup": 0.0, "sparsity": 0.5}
    with widened(program):
        one = train(program, ROWS, checkpoint=checkpoint, **settings)
    for both, single in zip(lines(two / f"shards-{checkpoint}"), one, strict=True):
        for name in ("loss", "grad_norm", "tokens", "sparsity_loss", "gates", "grad_norms", "grad_norms_by_round"):
            assert both[name] == pytest.approx(single[name], rel=1e-6, abs=1e-9), name
    for beside, blocks, held in json.loads((two / "held.json").read_text()):
        assert held == pytest.approx(beside + blocks / 2, rel=0.01)


def test_what_cannot_be_in_shards(tiny: Path) -> None:
    plugin = SimpleNamespace(fsdp_version=2)
    with pytest.raises(MascError, match=r"E0649.*`b` decodes an answer"):
        shard(make_program(REWARDED, tiny), plugin, told=False)
    program = make_program(REWARDED, tiny)
    program.base("a").model.register_parameter("packed", torch.nn.Parameter(torch.zeros(1).int(), requires_grad=False))
    with pytest.raises(MascError, match=r"E0649.*quantised"):
        shard(program, plugin)
    with pytest.raises(MascError, match=r"E0649.*DEEPSPEED"):
        asked(SimpleNamespace(distributed_type=SimpleNamespace(value="DEEPSPEED")))


def test_another_fsdp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    state = SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=1))
    with pytest.raises(MascError, match=r"E0649.*version 1"):
        asked(SimpleNamespace(distributed_type=SimpleNamespace(value="FSDP"), state=state))
