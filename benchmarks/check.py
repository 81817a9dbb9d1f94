"""How long `masc check` takes, and how it grows: large generated files, and the start-up of the command.

    python benchmarks/check.py

The files hold teams of ten agents in a chain, each with its own prompts; every ten chains feed a judge, and one agent
answers after all judges. Beside them one chain of as many agents, each of which sees all before it (`carry = trace`).
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SIZES = (500, 1_000, 2_000, 5_000)
CHAIN, PANEL = 10, 10
EXAMPLE = Path(__file__).parents[1] / "examples" / "relay"


def program(agents: int) -> str:
    """A `.mas` text with about so many agents, and a comment above each."""
    return "\n".join(_lines(agents)) + "\n"


def _lines(agents: int) -> Iterator[str]:
    yield 'mas 1\n\nmodel small = "smollm2-135m"\n'
    chains = [[f"a{chain}_{i}" for i in range(CHAIN)] for chain in range(max(1, agents // CHAIN))]
    panels = [chains[i : i + PANEL] for i in range(0, len(chains), PANEL)]
    for chain in chains:
        for name in chain:
            yield f"# What {name} is for."
            yield f'agent {name} on small {{\n  system "You are {name}."\n  user "{{question}} ({name})"'
            yield "  think 4 (align = norm)  # latent steps\n  adapt lora(rank = 8)\n}\n"
    for i, _ in enumerate(panels):
        yield f'agent judge{i} on small {{\n  user "{{question}} Weigh what you saw."\n  think 2\n}}\n'
    yield 'agent last on small {\n  user "{question}"\n  answer (max_tokens = 16)\n}\n'
    yield "graph large(question) -> answer {"
    for i, panel in enumerate(panels):
        for chain in panel:
            yield f"  {' -> '.join(chain)} : kv"
        yield f"  [{', '.join(chain[-1] for chain in panel)}] -> judge{i} : kv(carry = own)  # panel {i}"
        yield f"  judge{i} -> last : kv(carry = latents)"
    yield "}"


def chain(agents: int) -> str:
    """A `.mas` text with so many agents one behind the other."""
    names = [f"a{i}" for i in range(agents)]
    lines = ['mas 1\n\nmodel small = "smollm2-135m"\n']
    for name in names[:-1]:
        lines.append(f'agent {name} on small {{\n  user "{{question}} ({name})"\n  think 4\n}}\n')
    lines.append(f'agent {names[-1]} on small {{\n  user "{{question}}"\n  answer\n}}\n')
    return "\n".join([*lines, "graph long(question) -> answer {", f"  {' -> '.join(names)} : kv", "}\n"])


def _seconds(*command: object) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "masc", *map(str, command)], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for command in (("--help",), ("check", EXAMPLE)):
        best = min(_seconds(*command)[1] for _ in range(5))
        print(f"masc {command[0]:<8} {best:6.2f} s of processor time")
    for name, text in (("teams", program), ("one chain", chain)):
        grown(name, text)


def grown(name: str, text: Callable[[int], str]) -> None:
    """How the time grows with the number of agents."""
    found: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"large{size}.mas"
            path.write_text(text(size), encoding="utf-8")
            found[size] = _seconds("check", path)[1]
            print(
                f"{name}: check of {size:>6,} agents: {found[size]:6.2f} s, {1000 * found[size] / size:.2f} ms an agent"
            )
    first, last = SIZES[0], SIZES[-1]
    print(f"{name}: {last // first} times the agents take {found[last] / found[first]:.1f} times as long")


if __name__ == "__main__":
    main()
