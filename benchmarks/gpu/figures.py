"""A team of random weights on the device: a latent step, a decoded token, a training step; beside each the plain loop
and the floor (bytes over bandwidth, FLOPs over rate)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from device import Device, empty_folder, loading, sharing
from plain import PlainDecoder, PlainTuning
from random_models import Shape, random_model
from random_teams import chain, program, rows, seen

import masc

AGENTS, ANSWER = 4, 16
Row = Mapping[str, float | str]


class Team:
    """Four agents on one model, in memory once for masc and the plain loops."""

    def __init__(self, device: Device, shape: Shape, times: int) -> None:
        self.device, self.shape, self.times = device, shape, times
        self.folder = device.folder / shape.name
        self.tokens, self.positions, self.latents = (32, 64, 10) if device.cuda else (4, 20, 2)
        self.model = random_model(shape, torch.bfloat16, device=device.name).requires_grad_(False)

    def _made(self, latents: int) -> Any:
        folder = empty_folder(self.folder / "model", self.shape)
        with loading(self.model, self.shape):
            text = chain(folder, AGENTS, self.positions, latents, answer=ANSWER)
            return program(self.folder, text, device=self.device.name)

    @cached_property
    def made(self) -> Any:
        return self._made(self.latents)

    @property
    def head(self) -> int:
        """Weights of the output embedding."""
        return self.shape.vocabulary * self.shape.width

    @property
    def layers(self) -> int:
        """Weights of the layers: those that a latent step is multiplied with."""
        whole = sum(int(p.numel()) for p in self.model.parameters())
        return whole - self.head * (1 if self.shape.tied else 2)

    # -- running -----------------------------------------------------------------------------------------------------

    def token(self, batch: int, bandwidth: float, rate: float) -> Row:
        """Milliseconds of a decoded token: a longer answer less a shorter one. In both the passes are recorded."""
        given, few, many = rows(batch), 2 + self.tokens, 2 + 2 * self.tokens
        ours = self._difference(
            lambda: self.made.generate(given, max_tokens=many), lambda: self.made.generate(given, max_tokens=few)
        )
        plain = PlainDecoder(self.model, batch, seen(self.made, given[0]), self.tokens + 1)
        first = plain.prefill()
        theirs = self.device.median(lambda: plain.decode(first, self.tokens), self.times, before=plain.prefill)
        numbers = self.layers + self.head
        floor = 1000 * max(2 * numbers / bandwidth, 2 * numbers * batch / rate)
        return compared(ours / self.tokens, theirs / self.tokens, floor)

    def answer(self, batch: int, bandwidth: float) -> Row:
        """Milliseconds of a whole answer, from prompts to text; plain: a model that reads as many positions, and says
        as many tokens. Floor: that of the tokens and latent steps."""
        given, many = rows(batch), 2 + self.tokens
        ours = self.device.median(lambda: self.made.generate(given, max_tokens=many), self.times, 2)
        plain = PlainDecoder(self.model, batch, seen(self.made, given[0]), many)
        theirs = self.device.median(lambda: plain.decode(plain.prefill(), many - 1), self.times)
        steps = self.latents * (AGENTS - 1)
        floor = 2000 * (self.layers * (many + steps) + self.head * many) / bandwidth
        return compared(ours, theirs, floor)

    def latent(self, batch: int, bandwidth: float, rate: float) -> Row:
        """Milliseconds of a latent step: a team with more of them less one with fewer."""
        given = rows(batch)
        more = self._made(4 * self.latents)
        ours = self._difference(
            lambda: more.generate(given, max_tokens=1), lambda: self.made.generate(given, max_tokens=1)
        )
        steps = 3 * self.latents * (AGENTS - 1)
        plain = PlainDecoder(self.model, batch, seen(self.made, given[0]) // 2, self.tokens + 1)
        theirs = self.device.median(lambda: plain.think(self.tokens), self.times, before=plain.prefill)
        floor = 1000 * max(2 * self.layers / bandwidth, 2 * self.layers * batch / rate)
        return compared(ours / steps, theirs / self.tokens, floor)

    def _difference(self, longer: Callable[[], object], shorter: Callable[[], object]) -> float:
        """Milliseconds of one call less those of another, each the median of several."""
        return self.device.median(longer, self.times) - self.device.median(shorter, self.times)

    def launched(self, batch: int) -> Row:
        """Kernels, launches and waits of a decoded token."""
        given = rows(batch)
        self.made.generate(given, max_tokens=2)
        whole, part = (
            self.device.launched(lambda tokens=tokens: self.made.generate(given, max_tokens=tokens))  # type: ignore[misc]
            for tokens in (2 + self.tokens, 2)
        )
        plain = PlainDecoder(self.model, batch, seen(self.made, given[0]), 3)
        first = plain.prefill()
        theirs = self.device.launched(lambda: plain.decode(first, 1))
        ours = {name: (whole[name] - part[name]) / self.tokens for name in whole}
        return ours | {f"plain {name}": value for name, value in theirs.items()}

    # -- training ----------------------------------------------------------------------------------------------------

    def training(self, batch: int, bandwidth: float, rate: float, checkpoint: str) -> Row:
        """Milliseconds of a step of the optimiser, and how much memory it takes beside the weights. checkpoint: as the
        `train` entry. floor: the FLOPs of prompts and labels, and for each latent step the layers, read once on its way
        forward and once on its way back, or multiplied with, whichever takes longer."""
        given = rows(batch, ANSWER)
        self.made.free()
        with torch.no_grad():
            positions = self.made(given[:1]).positions
        taken: list[float] = []
        ours_peak = self.device.peak(lambda: self._steps(given, batch, taken, checkpoint))

        def plain() -> PlainTuning:
            return PlainTuning(sharing(self.model), batch, positions, ANSWER + 1)

        theirs_peak = self.device.peak(lambda: plain().step())
        theirs = self.device.median(plain().step, self.times, 2)
        steps = self.latents * (AGENTS - 1)
        latent = 2 * max(2 * self.layers / bandwidth, 2 * self.layers * batch / rate)
        told = 4 * (self.layers * (positions - steps) + self.head * (ANSWER + 1)) * batch / rate
        floor = 1000 * (told + steps * latent)
        found = compared(sorted(taken[1:])[len(taken[1:]) // 2], theirs, floor)
        memory = {"masc, GB": ours_peak, "plain, GB": theirs_peak}
        told = {name: peak / 1e9 for name, peak in memory.items() if peak is not None}
        return {**found, **told, "positions": positions * batch}

    def _steps(self, given: list[dict[str, Any]], batch: int, taken: list[float], checkpoint: str) -> None:
        last = [0.0]

        def listen(metrics: Mapping[str, Any]) -> None:
            self.device.wait()
            now = time.perf_counter()
            if last[0]:
                taken.append(1000 * (now - last[0]))
            last[0] = now

        steps = self.times + 2
        masc.train(self.made, given, steps=steps, batch=batch, rate=1e-6, checkpoint=checkpoint, listen=listen)

    def close(self) -> None:
        """Give its memory back."""
        self.__dict__.pop("made", None)
        del self.model
        gc.collect()
        if self.device.cuda:
            torch.cuda.empty_cache()


def compared(ours: float, theirs: float, floor: float) -> Row:
    """Milliseconds, and what they are to each other: masc / plain (1 is as fast), floor / masc (1 is all that there
    is)."""
    found = {"masc, ms": ours, "plain, ms": theirs, "floor, ms": floor}
    return {**found, "masc / plain": ours / theirs, "floor / masc": floor / ours}


def parts(ceilings: Mapping[str, float]) -> Iterator[tuple[str, Callable[[Team], Row]]]:
    """What is measured of a team, the most important figures first."""
    both = ceilings["bandwidth"], ceilings["rate"]
    yield "token, batch 1", lambda team: team.token(1, *both)
    yield "token, batch 32", lambda team: team.token(32, *both)
    yield "training step, batch 8", lambda team: team.training(8, *both, "none")
    yield "training step, batch 8, recomputed", lambda team: team.training(8, *both, "agent")
    yield "latent step, batch 1", lambda team: team.latent(1, *both)
    yield "answer, batch 1", lambda team: team.answer(1, ceilings["bandwidth"])
