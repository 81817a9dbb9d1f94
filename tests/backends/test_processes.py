"""Two processes train as one does: the loss is the mean over the answer tokens of both.

In float64: the rounds of a random model enlarge a rounding error so much that float32 tells nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from masc.backends.torch.training.train import train
from support import ROWS, make_program

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

RUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from support import ROWS, make_program
from masc.backends.torch.training.train import train
program = make_program(sys.argv[1], Path(sys.argv[2]), dtype="float64")
train(program, ROWS, steps=3, batch=2, rate=1e-3, warmup=0.0, sparsity=0.5, directory=sys.argv[3])
"""


def test_two_processes_equal_one(tiny: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    paths = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run(
        [*command, TEXT, str(tiny), str(tmp_path / "two")],
        env={**os.environ, "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    settings = {"steps": 3, "batch": 2, "accumulate": 2, "rate": 1e-3, "warmup": 0.0, "sparsity": 0.5}
    one = train(make_program(TEXT, tiny, dtype="float64"), ROWS, **settings)
    assert [m["step"] for m in lines] == [1, 2, 3]
    for two, single in zip(lines, one, strict=True):
        assert two["loss"] == pytest.approx(single["loss"], rel=1e-6)
        assert two["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-6)
        assert two["tokens"] == single["tokens"]
        assert two["sparsity_loss"] == pytest.approx(single["sparsity_loss"], rel=1e-6)
        assert two["gates"] == pytest.approx(single["gates"], rel=1e-6)
        assert two["grad_norms"] == pytest.approx(single["grad_norms"], rel=1e-6, abs=1e-9)
        assert two["grad_norms_by_round"] == pytest.approx(single["grad_norms_by_round"], rel=1e-6, abs=1e-9)
