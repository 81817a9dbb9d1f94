"""What an expert would write by hand for one fixed chain of agents: plain transformers and PEFT, no compiler.

Prompts of one agent have equal lengths, so there is no padding and nothing to mask. It is the measure for masc's speed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, DynamicCache


class HandWrittenRelay:
    """Agents in a chain on one model, each with a LoRA adapter, `steps` latent steps each but the last.

    prompts: one [B, P_i] tensor of ids per agent, the last one the answering agent's.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, agents: int, steps: int, rank: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.model.requires_grad_(False)
        self.steps = steps
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        for agent in range(agents):
            config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
            inject_adapter_in_model(config, self.model, adapter_name=f"agent{agent}")
        self.layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        self.parameters = []
        for name, parameter in self.model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
                self.parameters.append(parameter)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)
        self.tau = self.model.get_input_embeddings().weight.float().norm(dim=1).mean()

    def _use(self, agent: int) -> None:
        for layer in self.layers:
            layer._active_adapter = [f"agent{agent}"]

    def _upstream(self, prompts: list[Tensor]) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        for agent, ids in enumerate(prompts[:-1]):
            self._use(agent)
            hidden = self.model.model(ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
            for _ in range(self.steps):
                wide = hidden.float()
                embedding = (wide * (self.tau / wide.norm(dim=-1, keepdim=True))).to(hidden.dtype)
                hidden = self.model.model(
                    inputs_embeds=embedding, past_key_values=cache, use_cache=True
                ).last_hidden_state
        self._use(len(prompts) - 1)
        return cache

    @torch.no_grad()
    def run(self, prompts: list[Tensor], tokens: int) -> Tensor:
        """Greedy decoding of a fixed number of tokens: ids [B, tokens]."""
        cache = self._upstream(prompts)
        logits = self.model(prompts[-1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        out = [logits[:, -1].argmax(-1, keepdim=True)]
        while len(out) < tokens:
            logits = self.model(out[-1], past_key_values=cache, use_cache=True).logits
            out.append(logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat(out, 1)

    def train_step(self, prompts: list[Tensor], answer: Tensor) -> float:
        """One optimiser step on answer ids [B, A]; returns the loss."""
        cache = self._upstream(prompts)
        width = answer.shape[1]
        ids = torch.cat([prompts[-1], answer[:, :-1]], 1)
        logits = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=width).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), answer.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)
