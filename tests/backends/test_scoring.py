"""Scorers, intervals, and the numbers of a report."""

from __future__ import annotations

import json
import math
import secrets
import socket
import time
from pathlib import Path

import pytest
import torch

from masc.backends.torch import code_scorer
from masc.backends.torch.code_scorer import open_walls, passes, program_of
from masc.backends.torch.evaluate import evaluate, say_all
from masc.backends.torch.statistics import wilson
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_model, make_program


def test_wilson_against_known_values() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_code_runs_apart_and_inside_limits() -> None:
    assert passes("assert 1 + 1 == 2")
    assert not passes("assert 1 + 1 == 3")
    began = time.perf_counter()
    assert not passes("while True: pass", seconds=1)
    assert not passes("import time; time.sleep(60)", seconds=1)
    assert not passes("import os, time; os.setsid(); time.sleep(60)", seconds=1)
    assert time.perf_counter() - began < 15


@pytest.mark.parametrize(
    "bomb",
    [
        "x = bytearray(1 << 40)",
        "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "x = [0]\nwhile True: x += x",
        "x = 'a'\nwhile True: x += x",
    ],
)
def test_memory_is_limited(bomb: str) -> None:
    assert not passes(bomb, seconds=5, memory=1 << 28)
    assert passes(f"try:\n    exec({bomb!r})\nexcept MemoryError:\n    pass", seconds=5, memory=1 << 28)


def test_what_is_written_stays_in_the_folder(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    write = "import os, tempfile\nopen('mark', 'w').write('x')\nassert os.listdir() == ['mark']\n"
    write += "folder = tempfile.mkdtemp()\nassert os.path.samefile(os.path.dirname(folder), '.')\n"
    write += "assert os.path.samefile(os.path.expanduser('~'), '.')\nopen(os.devnull, 'w').write('x')\n"
    assert passes(write)
    assert not mark.exists()
    assert not Path("mark").exists()
    if "files outside its folder can be written" in open_walls():
        pytest.skip("this system has no Landlock, and this user is not the superuser")
    tmp_path.chmod(0o777)
    kept = tmp_path / "kept"
    kept.write_text("x")
    kept.chmod(0o666)
    for act in (
        f"open({str(mark)!r}, 'w')",
        f"open({str(kept)!r}, 'w')",
        f"open({str(kept)!r}, 'a')",
        f"import os; os.mkdir({str(mark)!r})",
        f"import os; os.unlink({str(kept)!r})",
        f"import os; open('a', 'w').close(); os.rename('a', {str(mark)!r})",
        f"import subprocess; subprocess.run(['touch', {str(mark)!r}], check=True)",
    ):
        assert not passes(act), act
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "x"


def test_the_network_is_closed() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)"
        if "the network is not closed" in open_walls():
            pytest.skip("this system lets this user have no network of its own")
        assert not passes(connect)
        assert passes(f"try:\n    exec({connect!r})\nexcept OSError:\n    pass")


def test_processes_are_limited() -> None:
    if "the number of its processes is not limited" in open_walls():
        pytest.skip("this system does not limit the processes of this user")
    began = time.perf_counter()
    assert not passes("import os\nwhile True: os.fork()", seconds=2)
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert not passes(bomb, seconds=2)
    assert time.perf_counter() - began < 30
    assert passes("import os, sys\nif os.fork() == 0: os._exit(0)\nos.wait()"), "a few are allowed"


@pytest.mark.parametrize("missing", [("_namespaces", ()), ("_become", "")])
def test_code_runs_where_walls_are_missing(missing: tuple[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_scorer, missing[0], lambda: missing[1])
    assert passes("open('a', 'w').write('x')")
    assert not passes("import os; os._exit(0)")
    assert not passes("while True: pass", seconds=1)


@pytest.mark.parametrize(
    "answer",
    [
        "import sys; sys.exit(0)",
        "raise SystemExit",
        "import os; os._exit(0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os\nif os.fork(): os._exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError",
        "import sys; print(sys.stdin.read()); print(open('/proc/self/cmdline').read()); sys.exit()",
        "input()",
        'x = """',
        "return 1",
        "\0",
        "\ud800",
    ],
    ids=ascii,
)
def test_code_passes_only_after_its_tests(answer: str) -> None:
    """The tests that follow do not hold; an answer that ends the run early has not passed them."""
    assert not passes(f"{answer}\nassert False\n", seconds=2)


def test_an_error_after_the_tests_fails() -> None:
    assert not passes("import atexit, os\natexit.register(os._exit, 1)")


def test_what_code_prints_is_not_kept_and_what_it_starts_is_ended() -> None:
    assert passes("for _ in range(50): print('x' * (1 << 20))")
    # Seconds that nobody else sleeps, to be found again: inside, process numbers may be others.
    nap = f"{secrets.randbelow(10**6) + 10**6}.25"
    start = f"import os, subprocess\nsubprocess.Popen(['sleep', {nap!r}])\n"
    apart = f"subprocess.Popen(['sleep', {nap!r}], start_new_session=True)\n"
    began = time.perf_counter()
    assert passes(start)
    assert not passes(f"{start}while True: pass", seconds=1)
    if "--pid" in code_scorer._namespaces():
        assert passes(start + apart)
        assert not passes(f"{start}{apart}while True: pass", seconds=1)
    assert time.perf_counter() - began < 20
    if not Path("/proc/self/cmdline").exists():
        return
    deadline = time.monotonic() + 5  # those that lost their parent are ended a moment later
    while found := [p for p in Path("/proc").glob("[0-9]*/cmdline") if nap.encode() in _read(p)]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_code_cannot_leave_what_cannot_be_deleted_or_fill_a_file() -> None:
    assert passes("import os\nos.mkdir('a')\nos.mkdir('a/b')\nos.chmod('a', 0)")
    assert not passes("open('big', 'w').write('x' * (2 << 20))")


TWO = {"prompt": "def two():\n", "entry_point": "two", "test": "def check(f):\n    assert f() == 2"}


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("    return 2", True),
        ("    return 3", False),
        ("def two():\n    return 2", True),
        ("def two():\n    return 3", False),
        ("def two_more():\n    return 2", False),
        ("Here:\n```python\ndef two():\n    return 2\n```\nDone.", True),
        ("```python\nprint(two())\n```\ncalls\n```python\ndef two():\n    return 2\n```", True),
        ("```\n    return 2\n```", True),
        ("```python\ndef two():\n    return 2", True),
        ("two = 2", False),
        ("", False),
        ("I do not know.", False),
        ("    return 2\nimport os; os._exit(0)", False),
    ],
)
def test_human_eval(said: str, right: bool) -> None:
    assert passes(program_of(said, TWO)) is right


def test_what_the_prompt_defines_is_there_for_a_whole_answer() -> None:
    prompt = "import math\n\ndef helper(x):\n    return x + 1\n\ndef three(x):\n"
    documented = f'{prompt}    """helper(2), floored"""\n'
    row = {"entry_point": "three", "test": "def check(f):\n    assert f(2) == 3"}
    whole = "def three(x):\n    return math.floor(helper(x))"
    assert passes(program_of(whole, {**row, "prompt": documented}))
    assert passes(program_of("    return math.floor(helper(x))", {**row, "prompt": documented}))
    assert not passes(program_of(whole, {**row, "prompt": prompt})), "a prompt that is no program: only its imports"
    assert passes(program_of("def three(x):\n    return math.floor(x + 1)", {**row, "prompt": prompt}))


MBPP = {
    "text": "from two lists make one",
    "prompt": "from two lists make one",
    "test_imports": ["import math"],
    "test_setup_code": "pair = Pair(1, 2)\r\nn = 3",
    "test_list": ["assert total(pair) == n", "assert math.isclose(total(Pair(0.1, 0.2)), 0.3)"],
}
CLASS = "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (f"{CLASS}def total(p):\n    return p.a + p.b", True),
        (f"Surely:\n```python\n{CLASS}\ndef total(p):\r\n    return p.a + p.b\n```", True),
        (f"{CLASS}def total(p):\n    return 3", False),
        (f"{CLASS}def sum_up(p):\n    return p.a + p.b", False),
        (f"{CLASS}def total(p):\n    import os; os._exit(0)", False),
    ],
)
def test_mbpp(said: str, right: bool) -> None:
    assert passes(program_of(said, MBPP)) is right
    few = {"test_list": MBPP["test_list"][0], "test_setup_code": MBPP["test_setup_code"], "test_imports": None}
    assert passes(program_of(said, few)) is (right or "return 3" in said)


def test_a_report_adds_up(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "norm"), ("b", 1, "norm")), tiny)
    ticks: list[int] = []
    report, items = evaluate(program, ROWS, "exact", batch=3, tick=ticks.append)
    assert [item.index for item in items] == [0, 1, 2, 3]
    assert sum(ticks) == report.items == 4
    assert report.latent_steps == 4 * 3
    said = program.say(ROWS)
    assert [item.said for item in items] == [one["answer"].text for one in said]
    assert report.tokens_decoded == sum(len(one["answer"].ids) for one in said)
    logprob, scored = sum(one["answer"].logprob for one in said), sum(one["answer"].scored for one in said)
    assert report.decoded_perplexity == pytest.approx(math.exp(-logprob / scored), rel=1e-3)
    with torch.no_grad():
        outs = [program([row]) for row in ROWS]
    loss = sum(float(o.loss) * o.tokens for o in outs) / sum(o.tokens for o in outs)
    assert report.gold_perplexity == pytest.approx(math.exp(loss), rel=1e-3)
    right = evaluate(program, [{**row, "answer": item.said} for row, item in zip(ROWS, items, strict=True)])[0]
    assert right.accuracy == 1.0


def test_an_empty_gold_answer_is_an_answer(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    rows = [{**ROWS[0], "answer": ""}, ROWS[1]]
    report, _ = evaluate(program, rows, batch=2)
    with torch.no_grad():
        assert report.gold_perplexity == pytest.approx(math.exp(float(program(rows).loss)), rel=1e-4)
    assert json.loads(json.dumps(report.json()))["gold_perplexity"] == report.gold_perplexity


def test_code_is_scored_with_or_without_gold_answers(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    rows = [{"q": "x", "test": "assert False"}, {"q": "y", "test": "assert False"}]
    report, items = evaluate(program, rows, "code", allow_code_execution=True)
    assert [item.gold for item in items] == ["", ""]
    assert report.correct == 0
    assert math.isnan(report.gold_perplexity)
    assert report.json()["gold_perplexity"] is None
    with pytest.raises(MascError, match="row 2 has no column `test`"):
        evaluate(program, [rows[0], ROWS[1]], "code", allow_code_execution=True)


def test_errors_name_the_row_of_the_data(tmp_path: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), make_model(tmp_path / "m", max_position_embeddings=96))
    for long in ({"q": "x" * 200, "answer": "y"}, {"q": "x", "answer": "y" * 200}):
        with pytest.raises(MascError, match="row 4 needs"):
            evaluate(program, [*[{"q": "x", "answer": "y"}] * 3, long], batch=2)


def test_results_do_not_depend_on_the_batch_size(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "norm"), ("b", 1, "norm")), tiny)
    runs = [{i: said["answer"].text for i, said in say_all(program, ROWS, size)} for size in (1, 2, 4)]
    assert runs[0] == runs[1] == runs[2]
    assert {i for i, _ in say_all(program, ROWS, 2, frozenset({1, 3}))} == {0, 2}


def test_wrong_wishes_are_told(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    for options, told in (
        ({"scorer": "exakt"}, "unknown scorer"),
        ({"scorer": "code"}, "runs what the model wrote"),
        ({"output": "anser"}, "no output"),
    ):
        with pytest.raises(MascError, match=told):
            evaluate(program, ROWS, **options)
    with pytest.raises(MascError, match="no rows"):
        evaluate(program, [])
