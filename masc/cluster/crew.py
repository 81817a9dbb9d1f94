"""Work shared out among the workers of a cluster: every piece is done, those of a worker that died once more.

Nothing here knows what the work is. A worker is an actor of Ray with a method `begin`, which makes it ready, and
methods that are generators: given pieces of work they yield lists of (piece, what came of it), and (None, news) in
between.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from masc.dsl.diagnostics import fail, first_line
from masc.terminal.console import say

Piece = TypeVar("Piece", bound=Hashable)

DEATHS = 3
"""Workers that a piece of work may take with it. Which of those that a worker held ended it, nobody can tell; so
the first time they are done again together, the second time each alone."""
_QUIET = 30.0
"""Seconds without a single worker after which that is said."""


@dataclass(eq=False)
class _Worker:
    """actor: of Ray; about: what `begin` told (None: it has not come up yet); starting: that call."""

    actor: Any
    starting: Any
    about: Any = None


class Crew:
    """So many workers. Within `with`; they end with it.

    make: an actor that has not begun; begin: the arguments of its `begin`; welcome: looks at what a worker told when it
    was up, and raises MascError where it does not fit the others.
    """

    def __init__(
        self,
        ray: Any,
        make: Callable[[], Any],
        begin: Sequence[Any],
        count: int,
        welcome: Callable[[Any], None] = lambda about: None,
    ) -> None:
        self._ray, self._make, self._begin, self._welcome = ray, make, begin, welcome
        told = ray.exceptions
        self._deadly = (told.RayActorError, told.ObjectLostError, told.NodeDiedError, told.OutOfMemoryError)
        self._barren = 0
        self._count, self._most = count, 3 + 2 * count
        self._workers = list[_Worker]()
        self._fill()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._workers]:
            self._dismiss(worker)

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of any worker returns; of another one where it dies."""
        while True:
            worker = self._first()
            try:
                return self._get(getattr(worker.actor, method).remote(*arguments))
            except self._deadly as error:
                self._replace(worker, error)

    def each(
        self,
        method: str,
        pieces: Sequence[Piece],
        *arguments: Any,
        least: int = 1,
        name: Callable[[Piece], str] = str,
        news: Callable[[Any], None] = lambda news: None,
    ) -> Iterator[tuple[Piece, Any]]:
        """Call a method (pieces, *arguments) until every piece is done; yields (piece, what came of it) as they come.

        A worker gets half of its part of what is left at a time, at least `least` pieces: in the beginning long
        stretches without a pause, towards the end short ones, so that all are done at about the same time. news: is
        told what comes in between. E0704, when all else is done, for pieces that took `DEATHS` workers with them; name:
        what they are called there. Errors that a worker raises are raised.
        """
        self._fill()
        todo, deaths, lost = deque(pieces), Counter[Piece](), list[Piece]()
        busy: dict[Any, tuple[_Worker, dict[Piece, None]]] = {}
        shared = [self._ray.put(argument) for argument in arguments]
        try:
            while todo or busy:
                engaged = {id(worker) for worker, _ in busy.values()}
                for worker in self._workers:
                    if todo and worker.about is not None and id(worker) not in engaged:
                        part = _part(todo, deaths, least, self._count)
                        call = getattr(worker.actor, method).options(num_returns="streaming")
                        busy[call.remote(part, *shared)] = worker, dict.fromkeys(part)
                stream = self._wait(list(busy))
                if stream is None:
                    continue
                worker, left = busy.pop(stream)
                try:
                    found = self._get(next(stream))
                except StopIteration:
                    continue
                except self._deadly as error:
                    deaths.update(list(left))
                    again = [piece for piece in left if deaths[piece] < DEATHS]
                    lost += [piece for piece in left if deaths[piece] >= DEATHS]
                    todo.extend(again)
                    if len(again) < len(left):  # it is known whose fault that was
                        self._barren = 0
                    self._replace(worker, error, len(again))
                    continue
                busy[stream] = worker, left  # behind the others, which are looked at before it
                for piece, result in found:
                    if piece is None:
                        news(result)
                        continue
                    self._barren = 0
                    del left[piece]
                    yield piece, result
        finally:
            for worker, _ in busy.values():  # it is still at what nobody waits for any more
                self._dismiss(worker)
        if lost:
            names = ", ".join(map(name, lost[:3])) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
            raise fail("E0704", f"{names}: {DEATHS} workers died of that", hint="all else was done")

    # -- workers -------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """As many workers as there are to be."""
        while len(self._workers) < self._count:
            actor = self._make()
            self._workers.append(_Worker(actor, actor.begin.remote(*self._begin)))

    def start(self) -> None:
        """Wait for the first worker."""
        self._first()

    def _first(self) -> _Worker:
        self._fill()
        while True:
            for worker in self._workers:
                if worker.about is not None:
                    return worker
            self._wait([])

    def _wait(self, streams: list[Any]) -> Any:
        """One of the streams in which there is something; None: a worker has come up, or has not."""
        starting = {worker.starting: worker for worker in self._workers if worker.about is None}
        while True:
            waiting = [*starting, *streams]
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=None if streams else _QUIET)
            if ready:
                break
            say(f"waiting for workers: none of {self._count} is up yet")
        if ready[0] not in starting:
            return ready[0]
        worker = starting[ready[0]]
        try:
            about = self._get(worker.starting)
        except self._deadly as error:
            self._replace(worker, error)
            return None
        self._welcome(about)
        worker.about = about
        return None

    def _get(self, reference: Any) -> Any:
        """A value; what a worker raised is raised as it was there."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error
            raise

    def _dismiss(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor)
        self._workers.remove(worker)

    def _replace(self, worker: _Worker, error: Exception, pieces: int = 0) -> None:
        """Another worker instead of one that has died. E0704 where many have died one after the other that had done
        nothing."""
        self._barren += 1
        again = f"; what it held ({pieces}) is done again" if pieces else ""
        say(f"a worker died: {_why(error)}{again}")
        if self._barren > self._most:
            raise fail("E0704", f"{self._barren} workers died one after the other", hint=_why(error))
        self._dismiss(worker)
        self._fill()


def _part(todo: deque[Piece], deaths: Counter[Piece], least: int, workers: int) -> list[Piece]:
    """What a worker gets next, taken from what is to be done: pieces of which equally many workers have died."""
    before = deaths[todo[0]]
    most = 1 if before >= DEATHS - 1 else least if before else max(least, len(todo) // (2 * workers))
    part = [todo.popleft()]
    while todo and len(part) < most and deaths[todo[0]] == before:
        part.append(todo.popleft())
    return part


def _why(error: Exception) -> str:
    """What Ray says of a death, in a line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = next((line for line in lines if line.startswith("The actor is dead because")), None)
    return (told or first_line(error)).partition(" Some common causes")[0].removeprefix("The actor is dead because ")
