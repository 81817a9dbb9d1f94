"""A frozen base model with its tokenizer: everything about it that agents share."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from masc.backends.torch.model import adapters
from masc.backends.torch.model.align import Fit, embedding_table, mean_length, mean_norm, scale_inside
from masc.backends.torch.model.applying import Aliases, Projections, is_still, using
from masc.backends.torch.model.attention import Columns, block_mask, window_of
from masc.backends.torch.model.blocks import join
from masc.backends.torch.model.characters import Characters
from masc.backends.torch.model.folded import Folded
from masc.backends.torch.model.layout import Layout
from masc.backends.torch.model.loading import applied, method_of
from masc.backends.torch.model.loading import load as loaded
from masc.backends.torch.model.lora import groups_of, projections, put_together
from masc.backends.torch.model.per_layer import PerLayer, tell_sources
from masc.backends.torch.model.recurrent import Masks, Reader, Recurrent, states_of, step_by_torch, why_recurrent
from masc.backends.torch.model.rotation import NEAR, Rotation, candidates, fitting, reading_the_same
from masc.backends.torch.model.segments import KeysValues, Past, States
from masc.compiler.files.reading import read_json
from masc.compiler.ir.adapter import Lora
from masc.compiler.language.models import LOADS, QUANTISED
from masc.compiler.models.chat import ChatTemplate, Form, look, unused
from masc.compiler.models.families import family_of
from masc.compiler.models.folder.templates import read_template
from masc.compiler.models.refusal import RefusalError
from masc.dsl.diagnostics import MascError, fail

TOKENIZING = threading.RLock()
"""Held while transformers' tokenizer works: how it does is state of its own, which threads share."""


class Base(nn.Module):
    """One frozen causal language model. It is in memory once, however many agents share it."""

    def __init__(
        self, folder: Path, dtype: torch.dtype, load: str | None = None, device: torch.device | str | None = None
    ) -> None:
        """load: of `LOADS` (None: in the dtype); device: where it is put (None: on the CPU), or `AUTO`."""
        super().__init__()
        self.load = load
        dtype = getattr(torch, (load and LOADS[load].dtype) or str(dtype).removeprefix("torch."))
        self.model, self.tokenizer = loaded(folder, dtype, load if load in QUANTISED else None, device)
        path = folder / "tokenizer_config.json"
        self.tokens: dict[str, Any] = read_json(path) if path.exists() else {}
        """What `tokenizer_config.json` says."""
        self.template = self._template(folder)
        self.form: Form = "text" if self.template is None else look(self.template).form
        self.frames: dict[Hashable, Any] = {}
        """Prompts through the template, without values (see `prompts`)."""
        self.folder = folder
        self.model.requires_grad_(False)
        self.model.eval()
        scale_inside(self.model.get_decoder())
        join(self.model)
        self.config = self.model.config.get_text_config(decoder=True)
        self.layers: int = self.config.num_hidden_layers
        self.recurrent = why_recurrent(self.config)
        """Why what a pass leaves behind is more than keys and values; None: it is these alone."""
        if self.recurrent is not None:
            step_by_torch(self.model.get_decoder())
        decoder = self.model.get_decoder()
        tell_sources(decoder)
        self.caches: int = self.layers - int(getattr(self.config, "num_kv_shared_layers", 0) or 0)
        """How many layers keep keys and values; the last ones may read those of others."""
        self.per_layer = PerLayer(decoder) if getattr(self.config, "hidden_size_per_layer_input", 0) else None
        """What finds the vectors of each layer by token, in models that have some."""
        self._lora: list[LoraLayer] = []
        self.folded = Folded()
        self.sharded = False  # whether this process keeps a part of its weights alone
        self.groups: list[list[LoraLayer]] = []
        """The layers that adapters sit on, or might, those that read the same input together."""
        self._fitted: dict[Fit, Tensor] = {}
        self._kept: dict[tuple[torch.device, torch.dtype], tuple[Layout, States]] = {}

    def _template(self, folder: Path) -> ChatTemplate | None:
        """The chat template that a look at the folder finds, not only that which transformers finds."""
        text, wrong = read_template(folder, self.tokens)
        if wrong:
            raise MascError([finding.about(str(folder)) for finding in wrong])
        named = {role: str(token) for role, token in self.tokenizer.special_tokens_map.items()}
        return None if text is None else ChatTemplate(text, named)

    def add_adapters(self, asked: Mapping[str, Lora], seed: int) -> None:
        """Put a fresh adapter on for each agent."""
        self._lora = adapters.add_all(self.model, asked, seed)
        self.groups = put_together(groups_of(self.model))

    @property
    def adapted(self) -> list[LoraLayer]:
        """The layers that adapters sit on."""
        return self._lora

    def applying(
        self, agent: str | None, aliases: Aliases | None = None, noise: torch.Generator | None = None
    ) -> AbstractContextManager[None]:
        """Within it, what this thread runs runs under one agent's adapter (or aliases of its parameters), or under
        none. noise: what dropout draws from."""
        return using(agent, aliases, noise, self.projections(agent, aliases))

    def projections(self, agent: str | None, aliases: Aliases | None = None) -> Projections:
        """What computes the layers that an agent's adapter sits on, during one activation (nothing: PEFT does)."""
        return {} if agent is None or self.sharded else projections(self.groups, agent, dict((aliases or {}).values()))

    def drops(self, agent: str | None) -> bool:
        """Whether dropout is on for an agent in this thread."""
        if agent is None or is_still():
            return False
        found = [layer.lora_dropout[agent] for layer in self._lora if agent in layer.lora_dropout]
        return any(isinstance(one, nn.Dropout) and one.p > 0 and one.training for one in found[:1])

    def train(self, mode: bool = True) -> Base:
        """The frozen model stays in evaluation mode; only the adapters' dropout follows."""
        super().train(False)
        for layer in self._lora:
            layer.lora_dropout.train(mode)
        return self

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def held(self) -> str:
        """In which numbers it is held, in words: its dtype, and what its projections are quantised to."""
        own = str(self.model.dtype).removeprefix("torch.")
        method = method_of(getattr(self.model.config, "quantization_config", None))
        said = self.load if self.load in QUANTISED else method
        return own if said is None else f"{own} and {said}"

    @property
    def width(self) -> int:
        """d, of hidden states and of input embeddings."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def wide(self) -> torch.dtype:
        """The dtype of what is trained beside it: float32, or its own if that is wider."""
        return torch.promote_types(next(self.model.parameters()).dtype, torch.float32)

    @property
    def kv_shape(self) -> tuple[int, int]:
        """Key/value heads, and how wide each one is."""
        heads = int(getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads)
        wide = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        return heads, int(wide)

    @property
    def max_positions(self) -> int:
        return int(getattr(self.config, "max_position_embeddings", 0) or 0)

    def run(
        self,
        inputs: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: Cache,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """One pass of the decoder: inputs are ids [B, Q] or embeddings [B, Q, d], positions [B, Q], the mask as in
        `attention.block_mask`. The cache grows by Q. Returns the hidden states after the final norm, [B, Q, d].

        lengths: how many of the columns are real of each row; states of a recurrent model are then those at its last
        real one (None: states are not asked for behind it)."""
        if isinstance(cache, Recurrent):
            return self.reader.read(inputs, positions, mask, cache, lengths)
        return self._run(inputs, positions, mask, cache)

    def _run(self, inputs: Tensor, positions: Tensor, mask: Masks, cache: Cache) -> Tensor:
        vectors = inputs.is_floating_point()
        beside = {"per_layer_inputs": self.per_layer(inputs)} if vectors and self.per_layer is not None else {}
        out = self.model.get_decoder()(
            **{"inputs_embeds" if vectors else "input_ids": inputs, self._cached: cache},
            **beside,
            position_ids=positions,
            attention_mask=mask,
            use_cache=True,
            return_dict=True,  # whatever config.json says
        )
        hidden: Tensor = out.last_hidden_state  # of mamba2 in float32, whatever its weights are
        return hidden.to(self.device, self.model.dtype)

    @cached_property
    def _cached(self) -> str:
        """What the decoder calls its cache."""
        known = signature(self.model.get_decoder().forward).parameters
        return "cache_params" if "cache_params" in known else "past_key_values"

    @cached_property
    def reader(self) -> Reader:
        """What reads with a cache that holds states."""
        return Reader(self._run, self.config)

    def cache(self, past: Past | None) -> DynamicCache:
        """A new cache over the tensors of a past. Never shared: `update` would let one reader see another's tokens.

        Made without the model's config, unless that speaks of states: layers with a sliding window would throw away
        what the mask already hides.
        """
        if self.recurrent is not None:
            known = () if past is None else (past.layers, past.states, past.columns.seen.shape[2])
            return Recurrent(self.config, *known)
        return DynamicCache() if past is None else DynamicCache(list(past.layers))

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 (float64 in float64) logits [..., V]."""
        out: Tensor = applied(self.model.get_output_embeddings(), hidden)
        scale, cap = self._scaling
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        if scale != 1.0:
            out = out * scale
        return out if cap is None else cap * torch.tanh(out / cap)

    @cached_property
    def _scaling(self) -> tuple[float, float | None]:
        """What the model does to its logits behind the output embedding: a factor (cohere, falcon_h1, granite), and the
        cap that they stay within (gemma2)."""
        named = (getattr(self.config, name, None) for name in ("logit_scale", "lm_head_multiplier"))
        factor = next((one for one in named if one), 1.0)
        scaling = getattr(self.config, "logits_scaling", None) or 1.0
        factor *= scaling if family_of(self.config.model_type).multiplies else 1 / scaling
        return factor, getattr(self.config, "final_logit_softcapping", None)

    def text(self, ids: Sequence[int]) -> str:
        """Decoded tokens without special ones, character for character: tidying would change earlier text."""
        with TOKENIZING:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def spelt(self, ids: Sequence[int]) -> list[str]:
        """Each token as its vocabulary spells it."""
        return list(self.tokenizer.convert_ids_to_tokens(list(ids)))

    @property
    def tau(self) -> Tensor:
        """Mean norm of what the embedding module returns, scalar float32."""
        return self._alignment[0].to(self.device)

    @property
    def scale(self) -> Tensor:
        """What the embedding module multiplies its weight by (Gemma's does), scalar float32."""
        return self._alignment[1].to(self.device)

    @property
    def weight(self) -> Tensor:
        """The weight of the embedding module, [V, d]."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    def fitted(self, fit: Fit) -> Tensor:
        """A map from hidden states to input embeddings, fitted to this model's own: float32 [d, d]. It is kept."""
        found = self._fitted.get(fit)
        if found is None or found.device != self.device:
            with torch.inference_mode(False), torch.no_grad():  # training may want it later
                found = self._fitted[fit] = fit(self.model.get_output_embeddings().weight.to(self.device), self.table())
        return found

    @cached_property
    def _alignment(self) -> tuple[Tensor, Tensor]:
        # tau and the scale. Kept in a tuple, out of reach of `.to(dtype)`: they stay float32.
        with torch.inference_mode(False), torch.no_grad():
            tau = mean_norm(self.model.get_input_embeddings(), self.rows)
            return tau, tau / mean_length(self.weight.detach())

    def table(self) -> Tensor:
        """What the embedding module returns for every token. Large: computed when needed, not kept."""
        embedding = self.model.get_input_embeddings()
        return embedding_table(embedding, embedding.weight.shape[0])

    @cached_property
    def characters(self) -> Characters:
        """Tokenises for this model, so that data stays data."""
        return Characters(self.tokenizer.backend_tokenizer)

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """What the tokenizer sets before every text (`<s>`); empty: nothing. `add_bos_token` in its config decides,
        which transformers does not read beside a `tokenizer.json`; where it says nothing, what the tokenizer does."""
        if isinstance(said := self.tokens.get("add_bos_token"), bool):
            bos = self.tokenizer.bos_token_id
            return (int(bos),) if said and bos is not None else ()
        with TOKENIZING:
            marked, bare = (self.tokenizer("a", add_special_tokens=each).input_ids for each in (True, False))
        behind = next((i for i in range(len(marked)) if marked[i : i + len(bare)] == bare), 0)
        return tuple(marked[:behind])

    @property
    def rows(self) -> int:
        """How many tokens the embedding has a vector for."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def padding(self) -> int:
        """The token that stands where there is none; it is never seen."""
        token = self.tokenizer.pad_token_id
        return token if token is not None and token < self.rows else 0

    def mask(
        self,
        past: Columns | None,
        new: Tensor,
        place: Tensor,
        gate: Tensor | None = None,
        whole: bool | None = None,
    ) -> Tensor | None:
        """`attention.block_mask` with this model's windows."""
        return block_mask(past, new, place, self.windows, gate, whole)

    @cached_property
    def _windows(self) -> tuple[Tensor] | None:
        found = [window_of(block, self.model.get_decoder(), self.config) for block in self.model.get_decoder().layers]
        return (torch.tensor([window or 1 << 62 for window in found], device="cpu"),) if any(found) else None

    @property
    def windows(self) -> Tensor | None:
        """How many positions each layer sees, its own included, long [L]; None where no layer is limited."""
        if self._windows is not None and self._windows[0].device != self.device:  # once, and not while recording
            self.__dict__["_windows"] = (self._windows[0].to(self.device),)
        return None if self._windows is None else self._windows[0]

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings [B, Q, d] of ids [B, Q], as the model would make them."""
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    @property
    def kept(self) -> tuple[Layout, States]:
        """What a pass leaves behind: how keys and values lie, and states [1, ...]. Found out by reading a token, once
        for each device and dtype."""
        key = self.device, self.weight.dtype
        if key not in self._kept:
            with torch.inference_mode(False), torch.no_grad(), self.applying(None):
                one, cache = torch.zeros(1, 1, dtype=torch.long, device=self.device), self.cache(None)
                self.run(one, one, None, cache)
                self._kept[key] = Layout.of(columns(cache, 0)), states_of(cache)
        return self._kept[key]

    @cached_property
    def rotations(self) -> tuple[tuple[Rotation | None, float], ...]:
        """By layer, what moves its keys to another position (None: none does), and the error that is left, relative to
        the keys' norm (see `rotation.fitting`). Each layer reads the same at both places."""
        decoder = self.model.get_decoder()
        with torch.inference_mode(False), torch.no_grad(), self.applying(None), reading_the_same(decoder.layers):
            ids = torch.arange(1, 8, device=self.device)[None] % self.rows
            offset = torch.tensor([5], device=self.device)
            place = torch.arange(ids.shape[1], device=self.device)[None]
            here, there = self.cache(None), self.cache(None)
            for cache, where in ((here, place), (there, place + offset[:, None])):
                self.run(ids, where, self.mask(None, torch.ones_like(ids, dtype=torch.bool), where), cache)
            both = zip(columns(here, 0), columns(there, 0), strict=True)
            return tuple(fitting(near, far, offset, list(candidates(decoder, near[0].shape[-1]))) for near, far in both)

    def rotate(self, keys: Tensor, offset: Tensor, layer: int) -> Tensor:
        """Move rotated keys [B, H, C, D] of a layer to positions that are `offset` ([B], or [B, C] for each column)
        later. Exact and differentiable. E0522 where it is not known how this model rotates."""
        rotation, error = self.rotations[layer]
        if error > NEAR:
            message = f"the keys of layer {layer} of the model in {self.folder} cannot be moved: no rotation that is "
            hint = "`merge = overlap` moves no keys"
            raise fail("E0522", f"{message}known gives those of another place", hint=hint)
        return keys if rotation is None else rotation.move(keys, offset)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the end of a turn, and whatever the model's generation config names."""
        ids = getattr(self.model.generation_config, "eos_token_id", None)
        named = ids if isinstance(ids, list) else [ids]
        return frozenset(i for i in (*named, self.tokenizer.eos_token_id, self.end_of_turn) if i is not None)

    @cached_property
    def end_of_turn(self) -> int:
        """The token that the chat template puts after an assistant's message, else the end-of-sequence token."""
        if (after := self._after_an_answer()) is not None:
            return after
        if self.tokenizer.eos_token_id is None:
            raise fail("E0616", f"the tokenizer of {self.tokenizer.name_or_path} has no end-of-sequence token")
        return int(self.tokenizer.eos_token_id)

    def _after_an_answer(self) -> int | None:
        """The added token that the template writes behind what an assistant says, white space aside; None where it
        writes none, or does not take what an assistant says."""
        if self.template is None:
            return None
        (said,) = unused(1, [self.template.text])
        try:
            text = self.template.render([("user", "?"), ("assistant", said)], self.form, asking=False)
        except RefusalError:
            return None
        _, there, behind = text.rpartition(said)
        with TOKENIZING:
            after = self.tokenizer(behind.lstrip(), add_special_tokens=False).input_ids if there else []
        added = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        return int(after[0]) if after and after[0] in added else None


def columns(cache: DynamicCache, first: int) -> KeysValues:
    """The keys and values of a cache from a column on, for every layer."""
    if isinstance(cache, Recurrent):
        return cache.columns(first)
    layers: Any = cache.layers
    return tuple((layer.keys[:, :, first:], layer.values[:, :, first:]) for layer in layers)
