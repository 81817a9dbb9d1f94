"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from masc.serving.served import Served

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Counters of one server."""

    def __init__(self, models: Sequence[Served]) -> None:
        self.registry = here = CollectorRegistry()
        ProcessCollector(registry=here)
        self.requests = Counter("masc_requests", "Requests, by path and status", ["path", "status"], registry=here)
        self.seconds = Histogram(
            "masc_request_seconds", "From a request to the end of its reply", ["path"], registry=here, buckets=_SECONDS
        )
        self.first = Histogram(
            "masc_first_token_seconds",
            "From a request to what is said first",
            ["model"],
            registry=here,
            buckets=_SECONDS,
        )
        self.prompt = Counter("masc_prompt_tokens", "Tokens of all agents' prompts", ["model"], registry=here)
        self.said = Counter("masc_completion_tokens", "Tokens of answers", ["model"], registry=here)
        self.gone = Counter("masc_hung_up", "Requests whose client hung up", ["model"], registry=here)
        rows = Gauge("masc_rows", "Rows that are decoded or wait", ["model"], registry=here)
        slots = Gauge("masc_slots", "Rows that are decoded together, at most", ["model"], registry=here)
        for model in models:
            rows.labels(model.name).set_function(partial(getattr, model.worker, "rows"))
            slots.labels(model.name).set(model.worker.size)

    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))
