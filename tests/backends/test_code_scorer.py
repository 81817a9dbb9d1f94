"""The code scorer: which code an answer gives, and that only right code passes."""

# ruff: noqa: E501 (programs stand on a line each)

from __future__ import annotations

import importlib
import textwrap
from typing import Any

import pytest

from masc.backends.scoring.code import passes
from masc.backends.scoring.code_text import tests_of as read_tests
from support import WALLS

PROMPT = 'import math\n\n\ndef half(x):\n    return x // 2\n\n\ndef two(n=4):\n    """Two, by half."""\n'
TWO: dict[str, Any] = {
    "prompt": PROMPT,
    "entry_point": "two",
    "test": "def check(candidate):\n    assert candidate() == 2\n    assert candidate(n=4) == 2\n    assert half(8) == 4",
}
PLUS = {"test_list": ["assert plus(1, 2) == 3", "assert plus(0, 0) == 0"]}
CODE = "def plus(a, b):\n    return a + b"


def fenced(code: str, tag: str = "python") -> str:
    return f"```{tag}\n{code}\n```"


HUMAN_EVAL = {
    "a body": ("    return 2", True),
    "a wrong body": ("    return 3", False),
    "a body that uses the prompt": ("    return half(n)", True),
    "a body without its indentation": ("return half(n)", True),
    "only the first line lost it": ("x = half(n)\n    return x", True),
    "a body and prose": ("    return half(n)\n\nThis halves the number.", True),
    "a body and the next function": ("    return half(n)\n\n\ndef three():\n    return 3\n", True),
    "the whole function": ("def two(n=4):\n    return half(n)", True),
    "with the prompt's import": ("def two(n=4):\n    return math.floor(half(n))", True),
    "a wrong function": ("def two(n=4):\n    return 3", False),
    "another name": ("def two_more(n=4):\n    return 2", False),
    "in a fence": (f"Here:\n{fenced('def two(n=4):' + chr(10) + '    return 2')}\nDone.", True),
    "a body in a fence": (fenced("    return 2"), True),
    "a lone closing fence": ("    return 2\n```", True),
    "a lone closing fence and prose": ("    return 2\n```\n\nIt returns 2.", True),
    "a function and a lone closing fence": ("def two(n=4):\n    return 2\n```\nSo.", True),
    "an opening fence only": ("```python\ndef two(n=4):\n    return 2", True),
    "a call first": (f"{fenced('print(two())')}\nas\n{fenced('def two(n=4):' + chr(10) + '    return 2')}", True),
    "the last of two": (
        f"{fenced('def two(n=4):' + chr(10) + '    return 3')}\nNo, better:\n"
        f"{fenced('def two(n=4):' + chr(10) + '    return 2')}",
        True,
    ),
    "a helper in a block before": (
        f"{fenced('def mine(n):' + chr(10) + '    return 2')}\nand\n"
        f"{fenced('def two(n=4):' + chr(10) + '    return mine(n)')}",
        True,
    ),
    "prose, then code without a fence": ("Sure! Here it is:\n\ndef two(n=4):\n    return 2\n\nHope it helps.", True),
    "a main block": ("def two(n=4):\n    return 2\n\nif __name__ == '__main__':\n    raise SystemExit(1)\n", True),
    "a main block that would define it": ("if __name__ == '__main__':\n    def two(n=4): return 2", False),
    "input at the end": ("def two(n=4):\n    return 2\n\nprint(two(int(input())))", True),
    "an example of its own that is wrong": ("def two(n=4):\n    return 2\n\nassert two() == 5", True),
    "a lambda": ("two = lambda n=4: 2", True),
    "a session": (">>> def two(n=4):\n...     return 2\n...\n>>> two()\n2\n", True),
    "after reasoning": ("<think>\ndef two(n=4):\n    return 3\n</think>\ndef two(n=4):\n    return 2", True),
    "only reasoning": ("<think>def two(n=4):\n    return 2", False),
    "nothing": ("", False),
    "words": ("I do not know.", False),
    "a docstring only": ('    """Two."""', False),
    "no program": ("def two(n=4:\n    return 2", False),
    "a NUL": ("\0", False),
    "half a character": ("\ud800", False),
}


@pytest.mark.parametrize("name", HUMAN_EVAL)
def test_human_eval(name: str) -> None:
    said, right = HUMAN_EVAL[name]
    assert passes(said, TWO, WALLS) is right


MBPP = {
    "code": (CODE, True),
    "a fence": (fenced(CODE), True),
    "without a tag": (fenced(CODE, ""), True),
    "bash first": (f"{fenced('pip install plus', 'bash')}\n\n{fenced(CODE)}", True),
    "bash and no tag": (f"{fenced('python run.py', 'sh')}\n\n{fenced(CODE, '')}\n\n{fenced('3', 'text')}", True),
    "output last": (f"{fenced(CODE)}\nOutput:\n{fenced('3', '')}", True),
    "usage last": (f"{fenced(CODE)}\nUsage:\n{fenced('print(plus(1, 2))')}", True),
    "tildes": (f"~~~python\n{CODE}\n~~~", True),
    "indented in a list": (f"1. So:\n\n   ```python\n{textwrap.indent(CODE, '   ')}\n   ```\n", True),
    "a byte-order mark": ("\ufeff" + CODE, True),
    "carriage returns": (CODE.replace("\n", "\r\n"), True),
    "wrong": (CODE.replace("+", "-"), False),
    "imported": ("from operator import add as plus", True),
    "the marks of MBPP's own prompt": (f"[BEGIN]\n{CODE}\n[DONE]\n\nYou are an expert", True),
    "the marks, around a fence": (f"[BEGIN]\n{fenced(CODE)}\n[DONE]", True),
    "a fence with a title": (fenced(CODE, 'python3 title="x.py"'), True),
}


@pytest.mark.parametrize("name", MBPP)
def test_mbpp(name: str) -> None:
    said, right = MBPP[name]
    assert passes(said, PLUS, WALLS) is right


def test_classes_generators_functions_and_lists_cross() -> None:
    """What the tests use of the candidate's objects is asked for step by step."""
    pair = "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n    def sum(self): return self.a + self.b\n"
    code = (
        f"{pair}def total(p):\n    return p.a + p.b\ndef up(n):\n    yield from range(n)\ndef add(n):\n    return lambda x: x + n\n"
        "def fill(xs):\n    xs.append(1)\ndef apply(f, x):\n    return f(x)\ndef bad(x):\n    raise ValueError('no')\n"
    )
    row = {
        "test_imports": ["import math"],
        "test_setup_code": "pair = Pair(1, 2)\r\npair.b = 5\nxs = []\nfill(xs)\n",
        "test_list": [
            "assert total(pair) == 6 and pair.sum() == 6",
            "assert list(up(3)) == [0, 1, 2]",
            "assert add(2)(3) == 5",
            "assert xs == [1]",
            "assert apply(lambda x: [x, {'a': (1, 2.5, None, {3})}], 7) == [7, {'a': (1, 2.5, None, {3})}]",
            "assert apply(math.sqrt, 4) == 2",
            "try:\n    bad(1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no'",
            "assert isinstance(apply(str, 10**30), str) and apply(abs, -(10**5000)) == 10**5000",
        ],
    }
    assert passes(code, row, WALLS)


CHEATS = {
    "leaves": "import os\ndef plus(a, b):\n    os._exit(0)",
    "leaves at once": f"import os\n{CODE.replace('+', '-')}\nos._exit(0)",
    "exits": "import sys\ndef plus(a, b):\n    sys.exit(0)",
    "exits at once": f"raise SystemExit(0)\n{CODE}",
    "is killed": "import os, signal\ndef plus(a, b):\n    os.kill(os.getpid(), signal.SIGKILL)",
    "always equal": "class Same:\n    def __eq__(self, other): return True\n    __ne__ = __lt__ = __eq__\n"
    "def plus(a, b):\n    return Same()",
    "equal number": "class Same(int):\n    def __eq__(self, other): return True\ndef plus(a, b):\n    return Same(7)",
    "equal text": "class Same(str):\n    def __eq__(self, other): return True\ndef plus(a, b):\n    return Same('x')",
    "equal list": "class Same(list):\n    def __eq__(self, other): return True\ndef plus(a, b):\n    return Same()",
    "says pass": "import os\ndef plus(a, b):\n    for n in range(64):\n        try: os.write(n, b'pass\\n')\n"
    "        except OSError: pass",
    "says value": "import os\ndef plus(a, b):\n    for n in range(64):\n        try: os.write(n, b'[\"value\",true,[]]\\n')\n"
    "        except OSError: pass",
    "frames": "import sys\ndef plus(a, b):\n    frame = sys._getframe()\n    while frame:\n        for value in list(frame.f_locals.values()):\n"
    "            if hasattr(value, 'send'):\n                value.send('pass')\n        frame = frame.f_back",
    "patches": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.__build_class__ = None\ndef plus(a, b):\n    return 0",
    "pickles": "class P:\n    def __reduce__(self): return (exit, ())\ndef plus(a, b):\n    return P()",
    "deep": "def plus(a, b):\n    x = []\n    for _ in range(5000): x = [x]\n    return x",
    "itself": "def plus(a, b):\n    x = []\n    x.append(x)\n    return x",
    "large": "def plus(a, b):\n    return 'x' * (1 << 26)",
    "raises what tests expect": "def plus(a, b):\n    raise AssertionError",
    "loops": "def plus(a, b):\n    while True: pass",
    "sleeps": "import time\ndef plus(a, b):\n    time.sleep(60)",
    "loops at once": f"while True: pass\n{CODE}",
    "recursion": "def plus(a, b):\n    return plus(a, b)",
}


@pytest.mark.parametrize("name", CHEATS)
def test_nothing_but_right_code_passes(name: str) -> None:
    from masc.backends.scoring.code import passes

    assert not passes(CHEATS[name], PLUS, WALLS, seconds=1)


def test_a_test_that_passes_over_errors_does_not_pass_over_an_end() -> None:
    row = {"test_list": ["try:\n    plus(1, 2)\nexcept Exception:\n    pass", "assert plus"]}
    assert not passes("import os\ndef plus(a, b):\n    os._exit(0)", row, WALLS)
    assert not passes(CODE, {"test_list": ["assert plus(1, 2)", "import os; os._exit(0)"]}, WALLS)


def test_an_object_is_neither_true_nor_false() -> None:
    code = "class Yes: pass\ndef plus(a, b):\n    return Yes()"
    assert not passes(code, {"test_list": ["assert plus(1, 2)"]}, WALLS)
    assert not passes(code, {"test_list": ["assert not plus(1, 2)"]}, WALLS)


def test_the_candidate_sees_nothing_of_the_tests() -> None:
    """Neither by way of a function that it is given, nor in its process."""
    steal = (
        "def plus(f):\n    found = []\n    for name in ('__globals__', '__code__', '__closure__', '__self__', 'gi_frame'):\n"
        "        try:\n            getattr(f, name)\n            found.append(name)\n        except Exception:\n            pass\n"
        "    return [n for n in found if n not in ('__self__',)]"
    )
    assert passes(steal, {"test_list": ["assert plus(lambda x: x) == []", "assert plus(x for x in [1]) == []"]}, WALLS)


CLOSE = {"test_list": ["assert math.isclose(area(3), 9.0, rel_tol=0.001)"]}


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("def area(x):\n    return x * x", True),
        ("import math\ndef area(x):\n    return math.pow(x, 2)", True),
        ("class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef area(x):\n    return 1", False),
        ("import math\nmath.isclose = lambda *a, **k: True\ndef area(x):\n    return 1", False),
    ],
)
def test_modules_of_the_tests_are_not_the_candidates(code: str, right: bool) -> None:
    from masc.backends.scoring.code import passes

    assert passes(code, CLOSE, WALLS) is right
    assert read_tests(CLOSE).wanted == ("area",)
    assert read_tests({"test_list": ["assert copy([1]) == [1]"]}).needed == ("copy",)


RAISED = {
    "b'\\xff'.decode()": "UnicodeDecodeError as e: assert e.start == 0",
    "{}['a']": "KeyError as e: assert e.args == ('a',) and str(e) == repr('a')",
    "open('/none')": "FileNotFoundError as e: assert e.errno == 2",
    "raise StopIteration(3)": "StopIteration as e: assert e.value == 3",
    "json.loads('{')": "json.JSONDecodeError as e: assert 'property name' in str(e)",
    "class Mine(ValueError): pass\n    raise Mine(3)": "ValueError as e: assert e.args == (3,)",
    "class Mine(Exception): pass\n    raise Mine('x')": "Exception as e: assert str(e) == 'x'",
}


@pytest.mark.parametrize("raised", RAISED)
def test_an_exception_arrives_as_what_it_is(raised: str) -> None:
    from masc.backends.scoring.code import passes

    tests = f"try: f()\nexcept {RAISED[raised]}\nelse: assert False"
    code = f"import json\ndef f():\n    {raised}"
    assert passes(code, {"test_list": [tests], "test_imports": ["import json"]}, WALLS)
    assert not passes(code, {"test_list": ["f()"], "test_imports": ["import json"]}, WALLS)


def test_who_raises_does_not_skip_a_test() -> None:
    from masc.backends.scoring.code import passes

    tests = (
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(plus(1, 2), 3)\n"
        "result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))\n"
        "assert result.wasSuccessful()"
    )
    row = {"test_list": [tests]}
    assert passes(CODE, row, WALLS)
    assert not passes("import unittest\ndef plus(a, b):\n    raise unittest.SkipTest('x')", row, WALLS)


def test_a_long_text_without_a_program_is_given_up_soon() -> None:
    text = "import x\n" * 3000 + "so on\n" * 3000
    looked = []
    code_text = importlib.import_module("masc.backends.scoring.code_text")
    parses = code_text._parses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_text, "_parses", lambda code: looked.append(len(code)) or parses(code))
        assert code_text.code_of(text, PLUS) is None
    assert sum(looked) < 5_000_000


def test_what_tests_take_from_the_candidate() -> None:
    assert read_tests(PLUS).needed == ("plus",)
    assert read_tests(TWO).wanted == ("two",)
    assert read_tests({"test_list": ["assert set(f([1])) == {1}"], "test_imports": ["import math"]}).needed == ("f",)
