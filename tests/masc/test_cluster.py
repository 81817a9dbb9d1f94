"""`--ray`: work shared out among the workers of a cluster, of whom some die."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from comparisons import all_runs, task
from courier import GRAPH, Command
from masc.backends.torch.evaluation.answering import Here
from masc.cluster import connect, work
from masc.cluster.connect import Place, Share, share_of
from masc.cluster.crew import Crew
from masc.cluster.worker import RunWorker, Up
from masc.compiler.analysis.decoding import Decoding
from masc.dsl.diagnostics import MascError, fail
from masc.session import answers
from masc.session import programs as session
from masc.studies import comparison


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster on this machine with room for two workers."""
    found = pytest.importorskip("ray", reason="ray is not installed")
    # Workers are to be no nicer than tests, and told nobody.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    space = 80 << 20
    found.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=space)
    found.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield found
    found.shutdown()


class Squaring:
    """Dies of 7."""

    def begin(self) -> Up:
        return Up("here", os.getpid(), {"dtypes": os.getpid()})

    def square(self, numbers: Sequence[int], plus: int) -> Iterator[list[tuple[int | None, int]]]:
        for number in numbers:
            if number == 7:
                os._exit(1)
            if number < 0:
                raise fail("E0606", "too long", hint="shorten it")
            yield [(None, number), (number, number * number + plus)]


def test_what_ends_workers_is_left_out_at_last(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    done, news = list[tuple[int, int]](), list[int]()
    with Crew(ray, ray.remote(Squaring).options(num_cpus=1).remote, (), 2) as crew:
        each = crew.each("square", range(20), 5, least=4, name=lambda i: f"row {i + 1}", news=news.append)
        with pytest.raises(MascError) as raised:
            done.extend(each)
    assert sorted(done) == [(i, i * i + 5) for i in range(20) if i != 7]
    assert set(news) == {i for i, _ in done}
    (told,) = raised.value.diagnostics
    assert (told.code, told.message) == ("E0704", "row 8: 3 workers died of that")
    assert capsys.readouterr().err.count("a worker died") == 3
    with crew, pytest.raises(MascError) as raised:
        list(crew.each("square", [-1, 0], 0))
    assert raised.value.diagnostics[0].hint == "shorten it"


def test_workers_that_differ_are_refused(ray: Any) -> None:
    differ = pytest.raises(MascError, match="E0684: dtypes differ: here has")
    with work._crew(ray, Squaring, (), Place("auto", 2), "cpu") as (crew, _), differ:
        crew._wait([])


def test_answers_of_two_workers_one_of_which_is_killed(
    masc: Command, folder: Path, ray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("courier.mas").write_text(GRAPH.replace("max_tokens = 4", "max_tokens = 12"))
    assert masc("train", "--set", "steps=2").code == 0
    rows = [{"code": str(i) * (1 + i % 5), "word": "ab"} for i in range(12)]
    found = session.find(Path("courier.mas"))
    sampled = Decoding(1.2, None, None, 3)
    asked = ("exact", None, 2, False, "auto", 2, sampled)
    here = Here(session.load_program(found, dtype="float32", device="cpu"))
    whole = session.evaluate(here.program, rows, *asked)
    answers.run_rows(here, rows, rows, Path("whole.jsonl"), 2, Decoding())
    capsys.readouterr()
    with work.answering(found, Place("auto", 2), dtype="float32", device="cpu") as team:
        assert isinstance(team, work.Team)
        workers, kill = team._crew._workers, [os.kill]
        while not all(worker.about for worker in workers):
            team._crew._wait([])
        said = team.said

        def killed(*arguments: Any) -> Iterator[Any]:
            for answer in said(*arguments):
                while kill:
                    kill.pop()(workers[0].about.pid, signal.SIGKILL)
                yield answer

        team.said = killed  # type: ignore[method-assign]
        report, items = session.evaluate(team, rows, *asked)
        assert (items, report.tokens_decoded) == (whole[1], whole[0].tokens_decoded)
        assert report.gold_perplexity == pytest.approx(whole[0].gold_perplexity, rel=1e-5)
        assert "is done again" in capsys.readouterr().err

        def stopped(*arguments: Any) -> Iterator[Any]:
            for answer, _ in zip(said(*arguments), range(3), strict=False):
                yield answer
            raise KeyboardInterrupt

        team.said = stopped  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            answers.run_rows(team, rows, rows, Path("out.jsonl"), 2, Decoding())
    assert len(Path("out.jsonl.partial").read_text().splitlines()) == 4
    answers.run_rows(here, rows, rows, Path("out.jsonl"), 2, Decoding())
    assert Path("out.jsonl").read_text() == Path("whole.jsonl").read_text()


def test_runs_of_a_comparison_as_a_worker_does_them(
    team: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a cluster: what a worker is sent is pickled, and it tells line by line."""

    class Alone:
        def each(self, method: str, pieces: Sequence[int], *sent: Any, news: Any, **_: Any) -> Iterator[Any]:
            for part in RunWorker().run(pieces[::-1], *pickle.loads(pickle.dumps(sent))):
                for piece, found in part:
                    if piece is None:
                        news(found)
                    else:
                        yield piece, found

    @contextmanager
    def crew(ray: Any, kind: type, begin: tuple[Path, str, str], *_: Any) -> Iterator[tuple[Any, Any]]:
        folder, mark, device = begin
        assert kind is RunWorker
        assert RunWorker().begin(folder, mark, device).kind["dtypes"]
        for other in ((folder / "not", mark), (folder, "another")):
            with pytest.raises(MascError, match="E0684"):
                RunWorker().begin(*other, device)
        yield Alone(), None

    @contextmanager
    def nothing(address: str) -> Iterator[None]:
        yield

    told = list[str]()
    monkeypatch.setattr(work, "say", told.append)
    monkeypatch.setattr(work, "_crew", crew)
    monkeypatch.setattr(work, "cluster", nothing)
    names, asked = ["single-tuned", "team", "majority"], task(team)
    monkeypatch.setattr(comparison, "_evaluate", lambda *_: ({"accuracy": 0.5, "seconds": 0.0}, [0.5], None))
    runs = list(all_runs(team, names).values())
    results = work.runs_on(Place("auto"))(runs, Path("out"), asked)
    assert [result.row for result in results] == names
    assert results[0].folder == results[2].folder
    assert any("team seed=0: step 3 of 3: loss" in line for line in told)
    starts = [line.split()[0] for line in told if line.endswith(": running")]
    assert starts == ["team", "single-tuned", "majority"]
    again = comparison.compare(team, Path("out"), asked, rows=names, seeds=[0])
    assert again == results
    assert capsys.readouterr().err.count("done before") == 3


def test_addresses(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("nonsense", "ray://here:10001", "here:"):
        assert masc("eval", "--ray", asked).code == 2
    assert masc("eval", "--workers", 2).code == 2
    assert masc("run", "--input", "code=1", "--ray", "local").code == 2
    assert masc("eval", "--task", "arc_easy", "--ray", "local").code == 2
    monkeypatch.setitem(sys.modules, "ray", None)
    lacking = masc("compare", "--ray", "local")
    assert (lacking.code, "E0682" in lacking.err) == (1, True)
    fake = type("Ray", (), {"is_initialized": staticmethod(lambda: False)})
    monkeypatch.setitem(sys.modules, "ray", fake)
    nobody = masc("eval", "--ray", "127.0.0.1:1")
    assert nobody.code == 1
    assert "E0683" in nobody.err
    assert "refused" in nobody.err


def test_how_a_cluster_is_shared_out() -> None:
    cases: list[tuple[list[tuple[int, int]], int | None, str | None, Share]] = [
        ([(8, 0), (8, 0)], None, None, Share(2, 8)),
        ([(8, 0), (4, 0)], 3, None, Share(3, 4)),
        ([(8, 0)], 1, "cpu", Share(1, 8)),
        ([(8, 4), (8, 4)], None, None, Share(8, 1, 1)),
        ([(8, 2)], 4, "cuda", Share(4, 1, 0.5)),
        ([(8, 2)], None, "cpu", Share(1, 8)),
    ]
    for nodes, workers, device, expected in cases:
        assert share_of(nodes, workers, device) == expected
    with pytest.raises(MascError, match="E0683"):
        share_of([(2, 0)], 3, None)
    assert connect.address_problem("head:6379") is None
