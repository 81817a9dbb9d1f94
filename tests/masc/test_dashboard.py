"""`masc train --dashboard`: a page that is sent while training runs, and what it draws."""

from __future__ import annotations

import http.client
import json
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from courier import Command
from masc.serving import dashboard, listening
from masc.serving.charts import MOST, chart
from masc.serving.dashboard import Tail, body, page

EVIL = "</td><script>alert(1)</script>"


def test_it_is_sent_while_training_runs_and_shows_the_end(
    masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "PAUSE", 0.02)
    seen: list[dict[str, Any]] = []
    pages: list[str] = []

    def watch(address: tuple[str, int]) -> None:
        """Open the page, and follow it to its end."""
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("GET", "/")
        pages.append(connection.getresponse().read().decode())
        connection.request("GET", "/events")
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:]))

    threads = []
    bound = listening.bound

    def bind(*arguments: Any) -> Any:
        place = bound(*arguments)
        threads.append(threading.Thread(target=watch, args=[place.getsockname()]))
        threads[0].start()
        return place

    monkeypatch.setattr(listening, "bound", bind)
    done = masc("train", "--set", "steps=3", "--set", "eval_every=2", "--dashboard")
    assert done.code == 0, done.err
    assert "http://127.0.0.1:" in done.err
    threads[0].join(10)
    assert '<h1 id="name">masc train</h1>' in pages[0], "it is there before the run is"
    assert seen[0]["status"] == "preparing"
    assert len(seen) >= 3
    shown: dict[str, Any] = {}
    for news in seen:
        shown |= news
    assert (shown["name"], shown["status"]) == ("courier", "trained")
    lines = [json.loads(line) for line in (folder / "courier.masc" / "metrics.jsonl").read_text().splitlines()]
    assert shown["body"] == body(lines, 3)
    assert "step 3 of 3" in shown["body"]
    for word in ("sender", "receiver", "loss, nats a token", "accuracy", "answers after step 3", "gradient norms"):
        assert word in shown["body"], word
    assert [one["gold"] for one in lines[-1]["eval_samples"]] == ["aa", "bb", "aa", "bb"]


def test_a_port_alone_or_one_that_is_taken_is_wrong_usage(masc: Command, folder: Path) -> None:
    assert masc("train", "--port", "8000").code == 2
    with listening.bound(listening.LOOPBACK, 0, 1) as place:
        done = masc("train", "--dashboard", "--port", place.getsockname()[1])
    assert done.code == 2
    assert "--port" in done.err
    assert not (folder / "courier.masc").exists()


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": 1 / step, "rate": 0.1, "positions": 8, "seconds": 0.5, "grad_norms": {}, **more}


def test_what_it_draws() -> None:
    norms = [{"a": 10.0**step, "b": float("nan")} for step in range(3)]
    lines = [line(i + 1, grad_norms=norm, gates={"a -> b": 0.5}, reward=i) for i, norm in enumerate(norms)]
    sample = {"index": 4, "said": EVIL, "gold": "x", "score": 0.0}
    shown = body([*lines, {"step": 3, "eval_accuracy": 0.25, "eval_samples": [sample]}], 10)
    root = ElementTree.fromstring(f"<main>{shown.replace('<br>', '<br/>')}</main>")
    figures = {str(one.findtext("figcaption")): one for one in root.iter("figure")}
    assert figures.keys() == {
        "loss, nats a token",
        "accuracy",
        "gradient norms, before clipping",
        "gates",
        "rate of adapters",
        "positions a second",
        "reward",
    }
    (drawn,) = figures["gradient norms, before clipping"].iter("polyline")
    heights = [float(point.split(",")[1]) for point in drawn.get("points", "").split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2]), "powers of ten are evenly apart"
    assert "a 100" in "".join(figures["gradient norms, before clipping"].itertext())
    assert "step 3 of 10, loss 0.3333, about 4 s left" in shown
    assert EVIL in "".join(root.itertext())
    assert "<script>alert" not in shown
    assert EVIL not in page({"name": EVIL, "status": EVIL, "body": ""})
    assert chart("nothing", {"x": [(1, float("inf"))]}, 3) == ""
    many = chart("many", {"x": [(step, 2.0) for step in range(10_001)]}, 10_000)
    assert MOST / 2 < many.count(",") <= MOST + 10
    assert "No step" in body([], 3)


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_bytes(b'{"step": 1}\n{"st')
    assert tail.read() == [{"step": 1}]
    with path.open("ab") as file:
        file.write(b'ep": 2}\nno JSON\n[3]\n')
    assert tail.read() == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n')
    assert tail.read() == [{"step": 1}], "cut short"
    (tmp_path / "new").write_bytes(b'{"step": 7}\n{"step": 8}\n{"step": 9}\n')
    (tmp_path / "new").rename(path)
    assert [one["step"] for one in tail.read()] == [7, 8, 9], "another file"
    path.unlink()
    assert tail.read() == []
