"""What masc's speed is held against: one model without agents, as one writes it with transformers and PEFT.

Decoding has a preallocated cache (`StaticCache`), no adapter, no padding, no end of an answer, and nothing is read back
from the device between tokens. Fine-tuning is PEFT's LoRA on all projections, float32 adapters, one sequence a row, and
logits at the answer's positions alone.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import StaticCache

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class PlainDecoder:
    """Greedy decoding behind `positions` random positions. model: of transformers, in evaluation mode."""

    def __init__(self, model: Any, batch: int, positions: int, most: int) -> None:
        self.model, self.positions = model, positions
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(8, model.config.vocab_size, (batch, positions), generator=generator)
        self.ids = ids.to(model.device)
        self.room = positions + most
        self.start = torch.full((batch, 1), positions, device=model.device)

    @torch.no_grad()
    def prefill(self) -> Tensor:
        """Fill a fresh cache; the first token, long [B, 1]."""
        self.cache = StaticCache(config=self.model.config, max_cache_len=self.room)
        logits: Tensor = self.model(self.ids, past_key_values=self.cache, logits_to_keep=1).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    @torch.no_grad()
    def decode(self, token: Tensor, tokens: int) -> Tensor:
        """So many tokens behind the first one, long [B, tokens]."""
        place, said = self.start.clone(), []
        for _ in range(tokens):
            logits = self.model(token, position_ids=place, past_key_values=self.cache).logits
            token = logits[:, -1].argmax(-1, keepdim=True)
            place += 1
            said.append(token)
        return torch.cat(said, 1)

    @torch.no_grad()
    def think(self, steps: int) -> Tensor:
        """So many latent steps behind the prompt: the last hidden state, brought to the embeddings' mean norm, is the
        next input. The last one, [B, 1, d]."""
        decoder, place = self.model.get_decoder(), self.start.clone()
        table = self.model.get_input_embeddings().weight
        norm = table[:1024].float().norm(dim=1).mean()
        hidden: Tensor = table[self.ids[:, -1:]]
        for _ in range(steps):
            wide = hidden.float()
            embedding = (wide * (norm / wide.norm(dim=-1, keepdim=True))).to(hidden.dtype)
            out = decoder(inputs_embeds=embedding, position_ids=place, past_key_values=self.cache)
            hidden = out.last_hidden_state
            place += 1
        return hidden


class PlainTuning:
    """LoRA fine-tuning: steps on `batch` sequences of `positions` tokens; the last `answer` predictions are trained."""

    def __init__(self, model: Any, batch: int, positions: int, answer: int) -> None:
        config = LoraConfig(r=16, lora_alpha=32, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
        self.model = get_peft_model(model, config)
        self.model.train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(8, model.config.vocab_size, (batch, positions + 1), generator=generator)
        self.ids, self.answer = ids.to(model.device), answer

    def step(self) -> float:
        """One step of the optimiser; returns the loss, in nats a token."""
        logits = self.model(input_ids=self.ids[:, :-1], use_cache=False, logits_to_keep=self.answer).logits
        labels = self.ids[:, -self.answer :]
        loss = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


class PlainThinking:
    """Positions one behind the other through the bare model, each the last one's hidden state, which attend to nothing
    but themselves; and the gradient through all of them. The least that so many latent steps take."""

    def __init__(self, model: Any, batch: int, steps: int) -> None:
        self.decoder, self.steps = model.requires_grad_(False).get_decoder(), steps
        self.first = model.get_input_embeddings().weight[:batch, None].clone().requires_grad_()

    def step(self) -> None:
        hidden: Tensor = self.first
        for _ in range(self.steps):
            hidden = self.decoder(inputs_embeds=hidden, use_cache=False).last_hidden_state
        hidden.float().sum().backward()
        self.first.grad = None
