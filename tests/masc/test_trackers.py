"""`masc train --tracker`: what the files of real trackers hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from courier import Command
from masc.backends.torch.training.trackers import named

reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def written(folder: Path) -> Any:
    """What TensorBoard shows of the run itself; settings lie in a folder of their own."""
    newest = max(folder.glob("masc/events.*"), key=lambda path: path.stat().st_mtime_ns)
    found = reading.EventAccumulator(str(newest))
    found.Reload()
    return found


def test_tensorboard_shows_what_the_metrics_say(masc: Command, folder: Path) -> None:
    done = masc("train", "--set", "steps=2", "--set", "eval_every=2", "--tracker", "tensorboard")
    assert done.code == 0, done.err
    root = folder / "courier.masc"
    *steps, last = map(json.loads, (root / "metrics.jsonl").read_text().splitlines())
    found = written(root)
    told = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    for tag, read in {
        "train/loss": lambda line: line["loss"],
        "train/learning_rate": lambda line: line["rate"],
        "train/grad_norm/sender": lambda line: line["grad_norms"]["sender"],
        "train/grad_norm/receiver": lambda line: line["grad_norms"]["receiver"],
    }.items():
        assert told[tag] == [(line["step"], pytest.approx(read(line))) for line in steps], tag
    assert told["eval/accuracy"] == [(2, pytest.approx(last["eval_accuracy"]))]
    assert {tag.partition("/")[0] for tag in told} == {"train", "eval"}
    (picture,) = found.Images("graph")
    drawn = Image.open(io.BytesIO(picture.encoded_image_string))
    assert (picture.step, drawn.size) == (0, (picture.width, picture.height))
    assert len(drawn.convert("L").getcolors()) > 10, "something is drawn"

    assert masc("eval", "courier.masc", "--checkpoint", "2", "--tracker", "tensorboard").code == 0
    found = written(root)
    for tag in ("eval/accuracy", "eval/gold_perplexity", "eval/items"):
        (event,) = found.Scalars(tag)
        assert (event.step, event.value) == (2, pytest.approx(last[tag.replace("/", "_")], rel=1e-4)), tag
    (table,) = found.Tensors("eval/answers/text_summary")
    gold = [line.split(" | ")[2] for line in table.tensor_proto.string_val[0].decode().splitlines()[2:]]
    assert gold == ["aa", "bb", "aa", "bb"]

    out = ("--tracker", "tensorboard", "-o", "audit.json")
    assert masc("audit", "courier.masc", *out).code == 0
    found, audit = written(root), json.loads((folder / "audit.json").read_text())
    assert found.Scalars("audit/carries/sender -> receiver")[0].value == pytest.approx(audit["edges"][0]["carries"])
    (table,) = found.Tensors("audit/edges/text_summary")
    assert "| sender -> receiver | cut |" in table.tensor_proto.string_val[0].decode()
    assert found.Images("audit/graph")[0].width == picture.width


def test_names() -> None:
    line = {"step": 3, "loss": 1.5, "grad_norm": 2, "grad_norms": {"a": 3.0}, "grad_norms_by_round": {"a#1": 1.0}}
    assert named({**line, "gates": {"a -> b": 0.5}, "eval_loss": 4.0, "note": "words"}) == {
        "train/loss": 1.5,
        "train/grad_norm": 2.0,
        "train/grad_norm/a": 3.0,
        "train/grad_norm/a#1": 1.0,
        "train/gate/a -> b": 0.5,
        "eval/loss": 4.0,
    }
