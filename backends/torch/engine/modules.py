"""What a program is made of: frozen models, an adapter for each agent, links between them, and the plan that runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masc.backends.torch.channels.arrivals import BRINGING
from masc.backends.torch.engine.history import NEW, History
from masc.backends.torch.engine.this_thread import Claim, Here, Threads
from masc.backends.torch.model import adapters
from masc.backends.torch.model.align import START
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.gates import Gate
from masc.backends.torch.model.loading import is_spread
from masc.backends.torch.model.spaces import Spaces
from masc.compiler.artifact import ModelRecord, model_hash
from masc.compiler.channels.gate import gate_of
from masc.compiler.forms.plan_text import gate_text, reach_text
from masc.compiler.ir.plan import Across, Plan, Turn, agent_of
from masc.compiler.language.alignments import ALIGNMENTS


class Modules(nn.Module):
    """A plan and the modules that it runs on.

    bases: one frozen model for each model of the plan, by name. seed: fresh adapters are drawn from it. history: where
    the plan comes from.
    """

    def __init__(self, plan: Plan, bases: Mapping[str, Base], seed: int = 0, history: History = NEW) -> None:
        super().__init__()
        self.seed = seed
        self._plan = plan
        self._history = history
        self._threads = Threads()
        self.spaces = Spaces()
        self._trainer = Claim()
        # The prefix keeps names such as `train` or `keys` apart from the module's own attributes.
        self.bases = nn.ModuleDict({f"model_{name}": base for name, base in bases.items()})
        self.links = nn.ParameterDict()
        for name, base in bases.items():
            own = {one.name: one.own for one in plan.agents if one.model == name and one.own is not None}
            base.add_adapters(own, seed)
        for turn in plan.turns:
            name = turn.agent
            if turn.think is not None and ALIGNMENTS[turn.think.align].trained and name not in self.links:
                # `adapt none` freezes all of an agent.
                adapted = plan.agent(name).lora is not None
                self.links[name] = nn.Parameter(self.base(name).fitted(START).clone(), requires_grad=adapted)
        self.across = nn.ModuleDict()
        self._told = False  # that channels stay closed without a `step`
        for turn in plan.turns:
            self._link(turn)
        self.eval()

    # -- what may differ from thread to thread -----------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """What runs (in this thread: see `running`)."""
        return self.here.plan or self._plan

    @property
    def here(self) -> Here:
        """What holds in this thread."""
        return self._threads.now

    def holding(self, **changes: Any) -> AbstractContextManager[None]:
        """Within it, fields of `here` are others in this thread."""
        return self._threads.holding(**changes)

    def running(self, plan: Plan) -> AbstractContextManager[None]:
        """Within it, another plan over the same agents runs in this thread, such as one with an edge cut."""
        return self.holding(plan=plan)

    # -- what has become of it ---------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Where it and its weights come from."""
        return self._history

    def note(self, history: History) -> None:
        """Its weights have been loaded, trained or saved: this is where it comes from now."""
        self._history = history

    def training_alone(self) -> AbstractContextManager[None]:
        """Within it nothing else trains the program. ValueError, at once, where something does."""
        return self._trainer.taken("this program is being trained already, in another thread or around this call")

    def _link(self, turn: Turn) -> None:
        """Make the trainable parts of a turn's edges, if they are not there yet: rounds share them."""
        for arrival in turn.arrives:
            sender = agent_of(arrival.segment)
            key = reach_text(Across(arrival.kind, sender, turn.agent))
            if (make := BRINGING[arrival.kind].link) is not None and key not in self.across:
                self.across[key] = make(arrival, self.base(sender), self.base(turn.agent), self.seed, key)
                if arrival.gated:
                    self.across[key].gate = self._gate(turn)
        for gate in (gate for entry in turn.sees for gate in entry.gates):
            if (key := gate_text(gate)) not in self.across:
                self.across[key] = nn.ModuleDict({"gate": self._gate(turn)})

    def _gate(self, turn: Turn) -> Gate:
        """A fresh gate of an edge into a turn, where its agent is computed."""
        base = self.base(turn.agent)
        return Gate().to(base.device, base.wide)

    def link(self, kind: str, sender: str, receiver: str) -> nn.Module:
        """The trained link of an edge between two agents. kind: its channel."""
        return self.across[reach_text(Across(kind, sender, receiver))]

    def gates(self) -> dict[str, Gate]:
        """The gates of edges, by the edge's name (`kv(a, b)`), those of the plan that runs first to last."""
        found = {name: getattr(module, "gate", None) for name, module in self.across.items()}
        return {name: gate for name, gate in found.items() if isinstance(gate, Gate)}

    def openness(self) -> dict[str, float]:
        """How far the gates of edges are open when the graph is run or evaluated, from 0 to 1, by the edge's name."""
        return {name: gate_of(float(gate.log_alpha.detach())) for name, gate in self.gates().items()}

    @property
    def wide_open(self) -> bool:
        """Whether all gates of the plan that runs are: then it runs as if it had none."""
        named = {gate_text(gate) for turn in self.plan.turns for entry in turn.sees for gate in entry.gates}
        arrived = [(turn, arrival) for turn in self.plan.turns for arrival in turn.arrives if arrival.gated]
        named |= {reach_text(Across(a.kind, agent_of(a.segment), turn.agent)) for turn, a in arrived}
        opened = self.openness() if named else {}
        return all(opened[name] == 1 for name in named)

    def sparsity(self) -> Tensor:
        """How many gates of edges are open, as training counts them: a scalar with a gradient, for loops of one's own.
        What the trainer adds to the loss is `sparsity` times this."""
        prices = [gate.price.to(self.device) for gate in self.gates().values()]
        return torch.stack(prices).sum() if prices else torch.zeros((), dtype=torch.float32, device=self.device)

    def base(self, agent: str) -> Base:
        """The base model of an agent."""
        base = self.bases[f"model_{self.plan.agent(agent).model}"]
        assert isinstance(base, Base)
        return base

    @property
    def models(self) -> list[Base]:
        """The base models."""
        return [base for base in self.bases.values() if isinstance(base, Base)]

    def free(self) -> None:
        """Give back the memory that is kept to run faster: copies of adapters, slots, what was recorded."""
        self.spaces.clear()
        for base in self.models:
            base.folded.clear()

    @property
    def flows(self) -> bool:
        """Whether the fast engine runs it: no model is in shards (that engine's passes may be recorded, and what
        gathers weights must not be) or on several devices, and no gate is half open or closed, for it knows what is
        seen and what is not, and nothing between."""
        return self.wide_open and not any(base.sharded or is_spread(base.model) for base in self.models)

    @property
    def device(self) -> torch.device:
        """Where the first model is computed, and what is summed over all of them."""
        return next(self.parameters()).device

    def begin(self, agent: str, folder: Path) -> None:
        """Let an agent's adapter be the trained one in a folder. E0557 where it cannot."""
        lora = self.plan.agent(agent).own
        assert lora is not None
        digest = adapters.begin(self.base(agent).model, agent, lora, folder)
        began = (*self.history.starts, (agent, f"{lora.start} sha256:{digest}"))
        self.note(replace(self.history, starts=began))

    # -- parameters ------------------------------------------------------------------------------------------------

    def trainable(self) -> dict[str, nn.Parameter]:
        """Adapters and links by name, in a fixed order. Nothing else is ever trained or saved."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def owner(self, parameter: str) -> str:
        """The agent, or the edge (`hidden(a, b)`), that a trainable parameter (by name) belongs to. An
        adapter that is shared belongs to the agent whose own it is."""
        if parameter.startswith("across."):
            return parameter.split(".")[1]
        if parameter.startswith("links."):
            return parameter.removeprefix("links.")
        return parameter.removesuffix(".weight").rpartition(".")[2]

    def state_dict(  # type: ignore[override]
        self, *args: Any, trainable_only: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As of any module; `trainable_only`: the adapters and links alone."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        if not trainable_only:
            return state
        names = self.trainable()
        return {name: tensor for name, tensor in state.items() if name in names}

    def channels(self) -> dict[str, nn.Parameter]:
        """What is trained beside the adapters, by name in `channels.safetensors`."""
        return {**dict(self.links.items()), **dict(self.across.named_parameters())}

    def model_records(self) -> tuple[ModelRecord, ...]:
        """What an artifact remembers of the base models."""
        records = []
        for model in self.plan.models:
            base = self.bases[f"model_{model.name}"]
            assert isinstance(base, Base)
            records.append(ModelRecord(model.name, model.target, model.loading.revision, model_hash(base.folder)))
        return tuple(records)
