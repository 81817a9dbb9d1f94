"""The tour runs, on a tiny model, and shows pictures, tables and bars."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import masc

pytest.importorskip("nbclient")

import nbformat
from notebook_kernels import execute

TOUR = Path(__file__).parents[2] / "examples" / "notebooks" / "tour.ipynb"
SHOWN = {
    "masc.check": ["text/html"],
    "masc.draw": ["image/svg+xml"],
    "program": ["image/svg+xml", "text/html"],
    "masc.evaluate": ["text/html"],
    "log": ["text/html"],
    "audit": ["text/html"],
}
"""As what a cell's last line is shown, by how it begins, beside plain text."""


def test_the_tour(tiny: Path, tmp_path: Path) -> None:
    tour = nbformat.read(TOUR, as_version=4)
    (parameters,) = (cell for cell in tour.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = f"MODEL, STEPS, TEST = {str(tiny)!r}, 2, 6\nimport warnings; warnings.simplefilter('ignore')"
    execute(tour, TOUR.parent, tmp_path)
    html, found = "", set()
    for cell in tour.cells:
        outputs = cell.get("outputs", [])
        html += "".join(output.get("data", {}).get("text/html", "") for output in outputs)
        last = cell.source.splitlines()[-1]
        if (name := next((name for name in SHOWN if last.startswith(name)), None)) is not None:
            assert sorted(outputs[-1].data) == sorted(["text/plain", *SHOWN[name]]), last
            found.add(name)
        assert not any(output.get("name") == "stderr" for output in outputs), cell.source
    assert found == set(SHOWN)
    assert "  --&gt; wrong.mas:" in html
    assert "eval_loss" in html  # a curve
    assert re.search(r"train .*2/2.*loss \d", html)  # the bar, when it was done
    assert re.search(r"carries .* gradient norm", html)


def test_what_is_wrong_with_a_file_is_shown_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "x.mas").write_text("mas 1\ngraph g(q) -> a {\n  q -> nobody : kv\n}\n")
    with pytest.raises(masc.MascError) as error:
        masc.compile(tmp_path / "x.mas")
    first, place, *_ = error.value._render_traceback_()
    assert first.startswith("error[E0")
    assert place.endswith("x.mas:3:8") or place.endswith("x.mas:3:3")
