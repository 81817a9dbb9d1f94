"""The live page: who is answered, what is sent, and what is watched."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from courier import Command
from masc.compiler.pipeline import compile_file
from masc.serving import board as boards
from masc.serving import listening
from masc.serving import live_page as serve

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
    path, board, stopped = tmp_path / "team.mas", boards.Board(**serve.BLANK, name="team"), threading.Event()
    with listening.bound(listening.LOOPBACK, 0, boards.MOST) as place:
        server = serve.server(board, place)
        painter = threading.Thread(
            target=serve.paint, args=(path, lambda: compile_file(path), board, stopped), daemon=True
        )
        runner = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        painter.start()
        runner.start()
        yield place.getsockname()
        stopped.set()
        server.should_exit = True
        painter.join(10)
        runner.join(10)


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


def raw(address: tuple[str, int], request: bytes) -> bytes:
    """What is answered to bytes, until the connection is closed."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def test_a_name_that_is_told_twice_is_refused(address: tuple[str, int]) -> None:
    own = f"Host: 127.0.0.1:{address[1]}\r\n"
    for hosts in (f"{own}Host: masc.example\r\n", f"Host: masc.example\r\n{own}", own + own, ""):
        answer = raw(address, f"GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403")


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127"])
def test_a_connection_that_asks_nothing_is_closed(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(listening, "IDLE", 0.2)
    assert raw(address, begun) == b""


def test_a_second_request_may_not_be_waited_for_either(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "IDLE", 0.3)
    whole = f"GET /none HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\n\r\n".encode()
    assert raw(address, whole + b"GET / HT").startswith(b"HTTP/1.1 404")


def test_a_head_without_end_is_refused(address: tuple[str, int]) -> None:
    own = f"GET /none HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\n"
    assert raw(address, f"{own}X: {'x' * 1000}\r\nConnection: close\r\n\r\n".encode()).startswith(b"HTTP/1.1 404")
    assert raw(address, f"{own}X: {'x' * (listening.HEAD + 1)}".encode()).startswith(b"HTTP/1.1 400")


def test_many_connections_take_no_threads_and_the_page_stays(address: tuple[str, int]) -> None:
    get(address).read()
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(address, timeout=20))
        assert get(address).status == 503, "told, not left waiting"
        assert threading.active_count() <= before + 1
    for _ in range(100):  # the closed ones are noticed
        if get(address).status == 200:
            break
        time.sleep(0.1)
    assert get(address).status == 200


def test_a_file_that_becomes_a_pipe_does_not_stop_the_painter(address: tuple[str, int], tmp_path: Path) -> None:
    found = events(address)
    until(found, "drawings")
    (tmp_path / "team.mas").unlink()
    os.mkfifo(tmp_path / "team.mas")
    assert "E0" in until(found, "problems")["problems"]
    (tmp_path / "team.mas").unlink()
    write(tmp_path / "team.mas", FILE)
    assert next(event for event in found if event.get("problems") == "")["problems"] == ""


def test_an_import_that_is_a_pipe(address: tuple[str, int], tmp_path: Path) -> None:
    found = events(address)
    until(found, "drawings")
    (tmp_path / "words.mas").unlink()
    os.mkfifo(tmp_path / "words.mas")
    assert "E0" in until(found, "problems")["problems"]


@pytest.mark.parametrize("name", ["a\\u0000.mas", "a" * 5000 + ".mas", "~nobody/a.mas", "/", ""])
def test_an_import_with_the_name_of_no_file_does_not_stop_the_painter(
    address: tuple[str, int], tmp_path: Path, name: str
) -> None:
    found = events(address)
    until(found, "drawings")
    write(tmp_path / "team.mas", FILE.replace("words.mas", name))
    assert "error[E" in until(found, "problems")["problems"]
    write(tmp_path / "team.mas", FILE)
    assert next(event for event in found if event.get("problems") == "")["problems"] == ""


def test_a_port_that_is_taken_is_wrong_usage(address: tuple[str, int], masc: Command, tmp_path: Path) -> None:
    done = masc("draw", "--watch", tmp_path / "team.mas", "--port", address[1])
    assert done.code == 2
    assert "--port" in done.err


def test_options_that_do_not_go_together(masc: Command, tmp_path: Path) -> None:
    assert masc("draw", "--watch", tmp_path, "-o", "x.svg").code == 2
    assert masc("draw", tmp_path, "--port", "8000").code == 2
    assert masc("draw", tmp_path, "--open").code == 2
