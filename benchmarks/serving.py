"""What `masc serve` does under load: `python benchmarks/serving.py`.

A team is served in this process, and called by the official `openai` client in another one (`pip install openai`):
many requests over 32 connections, half of them streamed.

1. All are answered, as often as the same rows by what `masc run --data` does, in turn: the throughput of both.
2. A third of the clients hang up midway. Every other answer must be what `generate` says of that row alone. Times of
   those requests (median and 95th percentile), and the memory of this process before and after.

    python benchmarks/serving.py                                          # 1,000 requests, a tiny model
    python benchmarks/serving.py --model smollm2-135m --requests 48       # the real one

Exit code 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

CONNECTIONS = 32
DISTINCT = 100
"""Rows that are asked, again and again."""
TEAM = """mas 1
model m = MODEL
agent a on m { user "{q}" think 2 adapt lora(rank = 8) }
agent b on m { user "Say it again: {q}" adapt lora(rank = 8) answer (max_tokens = TOKENS) }
graph g(q) -> answer { a -> b : kv }
"""


# -- the clients: another process --------------------------------------------------------------------------------------


async def call(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """One request. What it says, or None where this client hung up; seconds it took."""
    options = {"model": "team", "messages": [{"role": "user", "content": request["q"]}]}
    begun, text = time.perf_counter(), ""
    if not request["stream"]:
        asking = asyncio.ensure_future(client.chat.completions.create(**options))
        if request["hangs_up"]:
            await asyncio.wait({asking}, timeout=request["after"])
            if not asking.done():
                asking.cancel()
                return {"said": None, "seconds": 0}
        text = (await asking).choices[0].message.content
    else:
        async with await client.chat.completions.create(**options, stream=True) as stream:
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                if request["hangs_up"] and text:
                    return {"said": None, "seconds": 0}
    return {"said": text, "seconds": time.perf_counter() - begun}


async def clients(address: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """What all are told, and the seconds from the first request to the last reply."""
    from openai import AsyncOpenAI

    found: list[Any] = [None] * len(requests)
    waiting = iter(enumerate(requests))

    async def one(client: AsyncOpenAI) -> None:
        for place, request in waiting:
            found[place] = await call(client, request)

    made = [AsyncOpenAI(base_url=address, api_key="none", max_retries=0, timeout=600) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(client.models.list() for client in made))  # connected, and all imported
    begun = time.perf_counter()
    await asyncio.gather(*map(one, made))
    return {"told": found, "seconds": time.perf_counter() - begun}


def called(address: str, requests: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
    """What clients in another process are told, and answers a second."""
    command = [sys.executable, __file__, "--clients", address]
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    return found["told"], len(requests) / found["seconds"]


# -- the server --------------------------------------------------------------------------------------------------------


def program_of(model: str | None, folder: Path, tokens: int) -> Any:
    from support import make_model, make_program

    if model is None:
        program = make_program(TEAM.replace("TOKENS", str(tokens)), make_model(folder / "tiny"))
        for base in program.bases.values():  # answers of many lengths
            base.stop_ids = frozenset(range(0, base.rows, 24))
        return program
    from masc.backends.torch.model.fetch import fetch

    return make_program(TEAM.replace("TOKENS", str(tokens)), fetch(model), awake=False)


def memory() -> float:
    """MB of this process."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6


def share(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a base model's name (a tiny random one)")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most (48)")
    parser.add_argument("--batch", type=int, default=16, help="rows decoded together (16)")
    parser.add_argument("--pairs", type=int, default=3, help="how often throughputs are compared (3)")
    parser.add_argument("--clients", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clients:
        print(json.dumps(asyncio.run(clients(options.clients, json.load(sys.stdin)))))
        return 0

    import torch

    from masc.backends.torch.evaluation.evaluate import say_all
    from masc.serving import listening
    from masc.serving.app import Limits, app_of
    from masc.serving.served import Served
    from masc.serving.server import MOST, server

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}", flush=True)
    draws = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        program = program_of(options.model, Path(folder), options.tokens)
        words = [
            " ".join(str(draws.randrange(100)) for _ in range(draws.randint(2, 12)))
            for _ in range(min(DISTINCT, options.requests // 2))
        ]
        alone = {q: program.generate([{"q": q}])[0] for q in words}
        asked = [words[i % len(words)] for i in range(options.requests)]
        served = Served("team", program, options.batch, 4 * CONNECTIONS)
        with listening.bound(listening.LOOPBACK, 0, MOST) as place:
            running = server(app_of([served], Limits(seconds=600)), place, grace=10)
            thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
            thread.start()
            address = f"http://127.0.0.1:{place.getsockname()[1]}/v1"
            try:
                return measured(program, address, asked, alone, options, say_all)
            finally:
                running.should_exit = True
                thread.join()


def measured(
    program: Any, address: str, asked: list[str], alone: dict[str, str], options: argparse.Namespace, say_all: Any
) -> int:
    every = [{"q": q, "stream": bool(i % 2), "hangs_up": False, "after": 0.0} for i, q in enumerate(asked)]
    ratios, costs, wrong = [], [], 0
    seconds: list[float] = []
    for _ in range(options.pairs):
        begun, used = time.perf_counter(), time.process_time()
        rows = list(say_all(program, [{"q": q} for q in asked], options.batch))
        direct, cost = len(rows) / (time.perf_counter() - begun), time.process_time() - used
        used = time.process_time()
        found, rate = called(address, every)
        ratios.append(rate / direct)
        costs.append(cost / (time.process_time() - used))
        wrong += sum(one["said"] != alone[q] for one, q in zip(found, asked, strict=True))
        seconds = [one["seconds"] for one in found]
        print(f"run --data: {direct:.1f} answers a second; served: {rate:.1f}", flush=True)
    median = statistics.median(seconds)
    print(
        f"median of {options.pairs}, served to run --data: throughput by the clock {statistics.median(ratios):.2f}, "
        f"answers for a second of this process's processor time {statistics.median(costs):.2f}; wrong answers {wrong}",
        flush=True,
    )
    before = memory()
    third = [{**one, "hangs_up": not i % 3, "after": median / 2} for i, one in enumerate(every)]
    found, _ = called(address, third)
    stayed = [(one, q) for one, q in zip(found, asked, strict=True) if one["said"] is not None]
    bad = sum(one["said"] != alone[q] for one, q in stayed)
    times = [one["seconds"] for one, _ in stayed]
    print(
        f"{len(found)} requests over {CONNECTIONS} connections, {len(found) - len(stayed)} hung up: {bad} of the other "
        f"{len(stayed)} answered wrong; p50 {share(times, 0.5):.3f} s, p95 {share(times, 0.95):.3f} s; "
        f"memory {before:.0f} MB before, {memory():.0f} MB after"
    )
    return 1 if wrong or bad else 0


if __name__ == "__main__":
    sys.exit(main())
