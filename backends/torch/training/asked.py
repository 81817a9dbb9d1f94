"""The objective that a `train` block asks for."""

from __future__ import annotations

from dataclasses import asdict

from masc.backends.torch.training.grpo import Grpo
from masc.backends.torch.training.objective import Objective
from masc.backends.torch.training.supervised import Supervised
from masc.compiler.ir.plan import TrainSettings
from masc.compiler.language.objectives import SUPERVISED


def asked_for(settings: TrainSettings) -> Objective:
    said = settings.objective
    return Supervised() if said == SUPERVISED else Grpo(**asdict(said))
