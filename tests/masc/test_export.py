"""`masc export`: what other programs load computes what the agent computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

import masc
from courier import GRAPH, Command

IDS = torch.tensor([[5, 9, 2, 40, 17, 33]])
KINDS = [
    "lora(rank = 4)",
    "lora(rank = 4, rslora = true)",
    "lora(rank = 4, dora = true)",
    "lora(rank = 2, targets = mlp)",
]


def trained(command: Command, folder: Path, text: str = GRAPH) -> Any:
    """An artifact whose adapters change something, and its program."""
    (folder / "courier.mas").write_text(text)
    done = command("train", "--set", "steps=2", "--set", "rate=0.05", "--set", "save_every=1", "--set", "dtype=float32")
    assert done.code == 0, done.err
    return masc.load("courier.masc", device="cpu")


def of_program(program: Any, agent: str) -> Any:
    base = program.base(agent)
    with torch.no_grad(), base.applying(program.plan.agent(agent).adapter):
        return base.model(input_ids=IDS).logits


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float()


@pytest.mark.parametrize("kind", KINDS)
def test_both_folders_compute_what_the_agent_computes(masc: Command, folder: Path, kind: str) -> None:
    program = trained(masc, folder, GRAPH.replace("adapt lora(rank = 4)", f"adapt {kind}"))
    for agent in ("sender", "receiver"):
        own = of_program(program, agent)
        assert masc("export", "courier.masc", "--agent", agent, "--merged", "-o", f"{agent}-whole").code == 0
        assert masc("export", "courier.masc", "--agent", agent, "-o", f"{agent}-adapter").code == 0
        whole = AutoModelForCausalLM.from_pretrained(f"{agent}-whole")
        torch.testing.assert_close(logits(whole), own, atol=1e-4, rtol=1e-4)
        beside = AutoPeftModelForCausalLM.from_pretrained(f"{agent}-adapter", dtype=torch.float32)
        torch.testing.assert_close(logits(beside), own, atol=1e-4, rtol=1e-4)
        plain = logits(AutoModelForCausalLM.from_pretrained("tiny"))
        assert float((plain - own).abs().max()) > 1e-2, "the adapter changes something"


def test_a_merged_folder_is_a_plain_model(masc: Command, folder: Path) -> None:
    trained(masc, folder)
    done = masc("export", "courier.masc", "--agent", "receiver", "--merged", "-o", "whole", "--dtype", "bfloat16")
    assert done.code == 0, done.err
    config = json.loads((folder / "whole" / "config.json").read_text())
    before = json.loads((folder / "tiny" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    assert {k: config[k] for k in before if k not in ("dtype", "torch_dtype", "transformers_version")} == {
        k: v for k, v in before.items() if k not in ("dtype", "torch_dtype", "transformers_version")
    }
    names = {path.name for path in (folder / "whole").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any("adapter" in name for name in names)
    assert AutoTokenizer.from_pretrained("whole").get_vocab() == AutoTokenizer.from_pretrained("tiny").get_vocab()
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_stay_tied_or_not(masc: Command, folder: Path, tied: bool) -> None:
    model = AutoModelForCausalLM.from_pretrained("tiny")
    model.config.tie_word_embeddings = tied
    if tied:
        model.tie_weights()
    model.save_pretrained("tiny")
    program = trained(masc, folder)
    assert masc("export", "courier.masc", "--agent", "receiver", "--merged", "-o", "whole").code == 0
    whole = AutoModelForCausalLM.from_pretrained("whole")
    assert (whole.get_input_embeddings().weight is whole.get_output_embeddings().weight) == tied
    torch.testing.assert_close(logits(whole), of_program(program, "receiver"), atol=1e-4, rtol=1e-4)


def test_agents_that_share_or_have_none(masc: Command, folder: Path) -> None:
    text = GRAPH.replace("  adapt lora(rank = 4)\n  answer", "  adapt as sender\n  answer")
    program = trained(masc, folder, text)
    done = masc("export", "courier.masc", "--agent", "receiver", "-o", "shared")
    assert "shares the adapter of `sender`" in done.err
    beside = AutoPeftModelForCausalLM.from_pretrained("shared", dtype=torch.float32)
    torch.testing.assert_close(logits(beside), of_program(program, "sender"), atol=1e-4, rtol=1e-4)


def test_an_agent_without_an_adapter_is_its_base(masc: Command, folder: Path) -> None:
    trained(masc, folder, GRAPH.replace("  adapt lora(rank = 4)\n  answer", "  adapt none\n  answer"))
    refused = masc("export", "courier.masc", "--agent", "receiver", "-o", "none")
    assert "error[E0635]: `receiver` has no adapter" in refused.err
    assert masc("export", "courier.masc", "--agent", "receiver", "--merged", "-o", "none").code == 0
    plain = logits(AutoModelForCausalLM.from_pretrained("tiny"))
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained("none")), plain, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_exported(masc: Command, folder: Path) -> None:
    assert masc("compile").code == 0
    assert "E0635" in masc("export", "courier.masc", "--agent", "receiver").err
    trained(masc, folder)
    refused = masc("export", "courier.masc", "--agent", "reciever")
    assert "error[E0635]" in refused.err
    assert "did you mean `receiver`?" in refused.err
    assert masc("export", "courier.masc").code == 2
    assert masc("export", "courier.masc", "--agent", "receiver", "--dtype", "float32").code == 2
    before = (folder / "train.jsonl").read_bytes()
    for out in ("train.jsonl", "tiny", "courier.masc/whole", "tiny/whole"):
        refused = masc("export", "courier.masc", "--agent", "receiver", "-o", out)
        assert "error[E0612]" in refused.err, out
    assert (folder / "train.jsonl").read_bytes() == before
    (folder / "empty").mkdir()
    assert masc("export", "courier.masc", "--agent", "receiver", "--checkpoint", "1", "-o", "empty").code == 0
    assert (folder / "empty" / "adapter_config.json").is_file()


def test_a_failure_leaves_nothing(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masc.session import exports as session

    trained(masc, folder)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "_write", full)
    names = {path.name for path in folder.iterdir()}
    refused = masc("export", "courier.masc", "--agent", "receiver", "--merged", "-o", "whole")
    assert "error[E0612]: cannot write `whole`: No space left" in refused.err
    assert {path.name for path in folder.iterdir()} == names
