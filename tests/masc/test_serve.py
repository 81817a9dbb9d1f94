"""The live page: who is answered, what is sent, and what is watched."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from courier import Command
from masc import serve
from masc.compiler.pipeline import compile_file

FILE = """mas 1
import "words.mas" (m)
agent a on m {
  user "{q}"
  answer
}
graph team(q) -> answer {
  a
}
"""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The page of `tmp_path/team.mas`, served until the test is over."""
    monkeypatch.setattr(serve, "PAUSE", 0.02)
    (tmp_path / "team.mas").write_text(FILE)
    (tmp_path / "words.mas").write_text('mas 1\nmodel m = "no-one/not-on-disk"\n')
    path, board, stopped = tmp_path / "team.mas", serve.Board(**serve.BLANK, name="team"), threading.Event()
    with serve.Server(board, 0) as server:
        painter = threading.Thread(
            target=serve.paint, args=(path, lambda: compile_file(path), board, stopped), daemon=True
        )
        runner = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        painter.start()
        runner.start()
        yield "127.0.0.1", server.server_port
        stopped.set()
        server.shutdown()
        painter.join(10)


def get(address: tuple[str, int], path: str = "/", host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def events(address: tuple[str, int]) -> Iterator[dict[str, Any]]:
    response = get(address, "/events")
    while line := response.readline():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def until(found: Iterator[dict[str, Any]], name: str) -> dict[str, Any]:
    """The next event that tells `name`, and something of it."""
    return next(event for event in found if event.get(name))


def write(path: Path, text: str) -> None:
    path.write_text(text)
    stamp = path.stat().st_mtime_ns + 1_000_000_000  # file systems may count in seconds
    os.utime(path, ns=(stamp, stamp))


def test_it_is_redrawn_when_the_file_or_an_import_is_saved(address: tuple[str, int], tmp_path: Path) -> None:
    found = events(address)
    assert "agent a" in until(found, "drawings")["panels"]
    write(tmp_path / "words.mas", 'mas 1\nmodel m = "no-one/another"\n')
    rows = until(found, "drawings")["panels"]["agent a"]["sections"][0]["rows"]
    assert rows[0] == ["model", 'm = "no-one/another"']
    (tmp_path / "words.mas").unlink()
    assert "E0" in until(found, "problems")["problems"]
    write(tmp_path / "words.mas", 'mas 1\nmodel m = "no-one/third"\n')
    assert until(found, "drawings")["problems"] == ""


def test_what_is_wrong_is_shown_with_carets_and_the_drawing_stays(address: tuple[str, int], tmp_path: Path) -> None:
    found = events(address)
    until(found, "drawings")
    write(tmp_path / "team.mas", FILE.replace("graph team(q)", "grph team(q)"))
    news = until(found, "problems")
    assert "^^^^" in news["problems"]
    assert "drawings" not in news
    assert "<svg" in get(address).read().decode()


def test_a_foreign_name_is_refused(address: tuple[str, int]) -> None:
    port = address[1]
    assert get(address, host="masc.example").status == 403
    assert get(address, "/events", host=f"masc.example:{port}").status == 403
    assert get(address, host=f"localhost:{port}").status == 200
    assert get(address, "/etc/passwd").status == 404


def test_a_port_that_is_taken_is_wrong_usage(address: tuple[str, int], masc: Command, tmp_path: Path) -> None:
    done = masc("draw", "--watch", tmp_path / "team.mas", "--port", address[1])
    assert done.code == 2
    assert "--port" in done.err


def test_options_that_do_not_go_together(masc: Command, tmp_path: Path) -> None:
    assert masc("draw", "--watch", tmp_path, "-o", "x.svg").code == 2
    assert masc("draw", tmp_path, "--port", "8000").code == 2
    assert masc("draw", tmp_path, "--open").code == 2
