"""The cluster that an address names, and how its processors are shared out among workers."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from math import ceil
from typing import Any

from masc.dsl.diagnostics import MascError, fail, first_line

LOCAL, RUNNING = "local", "auto"
_PATIENCE = 5.0
"""Seconds in which a head node must answer. Ray itself tries for two minutes."""


@dataclass(frozen=True)
class Place:
    """A cluster, and how many workers it is to have (None: one for each GPU, or for each machine)."""

    address: str
    workers: int | None = None


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what each is given: cores, and (a part of) a GPU."""

    workers: int
    cores: int
    gpus: float = 0


def check_ray() -> None:
    """E0682 where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        hint = "pip install ray, or in masc's folder: pip install '.[ray]'"
        raise fail("E0682", "`--ray` needs the package `ray`, which is not installed", hint=hint) from None


def address_problem(address: str) -> str | None:
    """What is wrong with an address; None: nothing that can be seen of it."""
    host, colon, port = address.rpartition(":")
    if address in (LOCAL, RUNNING) or (host and colon and port.isdecimal() and "/" not in host):
        return None
    if address.startswith("ray://"):
        return "Ray's client cannot pass answers on as they come: start the command on a machine of the cluster"
    return f"`{address}` is no address: {LOCAL}, {RUNNING}, or HOST:PORT of the head node"


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Ray, connected within it: `local` starts a cluster on this machine that ends with it, `auto` is the one that runs
    here, HOST:PORT that of a head node. One that this process is connected to already is used as it is. E0682, E0683.
    """
    check_ray()
    import ray

    if ray.is_initialized():
        yield ray
        return
    if address not in (LOCAL, RUNNING):
        _knock(address)
    if address == LOCAL:  # a cluster of one's own reports to nobody
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    with redirect_stdout(sys.stderr):  # Ray tells there what happens to workers; results alone are to stand there
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (Exception, SystemExit) as error:  # it exits where a head node does not answer as one
            raise _unreachable(address, first_line(error)) from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None


def _unreachable(address: str, why: str) -> MascError:
    hint = "`ray start --head` starts a cluster; `--ray local` needs none"
    return fail("E0683", f"cannot reach a Ray cluster at `{address}`: {why}", hint=hint)


def share_of(nodes: Sequence[tuple[int, int]], workers: int | None, device: str | None) -> Share:
    """What each worker is given. nodes: cores and GPUs of each machine; workers: how many (None: one for each GPU, or
    for each machine where there are none). E0683 where there is no room for so many."""
    gpus = sum(found for _, found in nodes)
    if gpus and device != "cpu":
        count = workers or gpus
        each = ceil(count / gpus)
        return Share(count, 1, 1 / each if each > 1 else 1)
    count = workers or max(1, len(nodes))
    most = max((cores for cores, _ in nodes), default=0)
    for cores in range(most, 0, -1):
        if sum(found // cores for found, _ in nodes) >= count:
            return Share(count, cores)
    room = sum(found for found, _ in nodes)
    raise fail("E0683", f"the cluster has {room} cores, which are too few for {count} workers", hint="ask for fewer")


def nodes_of(ray: Any) -> list[tuple[int, int]]:
    """Cores and GPUs of each machine of the cluster."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in found]
