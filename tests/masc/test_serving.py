"""`masc serve`: what clients are answered, and what becomes of who is not."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from courier import Command
from masc.serving import listening
from support import make_program

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from masc.serving.app import Limits, app_of
from masc.serving.served import Served
from masc.serving.server import server

TEAM = """mas 1
model m = MODEL
agent a on m { user "{context} {q}" think 1 (align = norm) adapt lora(rank = 4) }
agent b on m { user "Say {q}." adapt lora(rank = 4) answer (max_tokens = 12, temperature = 0.0) }
graph g(context, q) -> answer { a -> b : kv }
"""
INPUTS = {"context": "é some words"}
ROW = {**INPUTS, "q": "hello"}
JSON = {"Content-Type": "application/json"}
ASK = {"model": "team", "messages": [{"role": "user", "content": "hello"}], "inputs": INPUTS}


@pytest.fixture(scope="module")
def program(tiny: Path) -> Any:
    return make_program(TEAM, tiny)


@pytest.fixture(scope="module")
def client(program: Any) -> Iterator[TestClient]:
    app = app_of([Served("team", program, size=4, most=2)], Limits(seconds=60, size=4000))
    with TestClient(app) as found:
        yield found


def chunks(response: Any) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.5, "top_p": 0.9, "seed": 5, "max_tokens": 20}, {"max_tokens": 3}, {"stop": ["e", "\ufffd"]}],
    ids=str,
)
def test_a_chat_is_answered_as_generate_answers(client: TestClient, program: Any, options: dict[str, Any]) -> None:
    (said,) = program.generate([ROW], **options)
    whole = client.post("/v1/chat/completions", json={**ASK, **options}).json()
    assert whole["choices"][0]["message"]["content"] == said
    ended = whole["choices"][0]["finish_reason"]
    stream = client.post(
        "/v1/chat/completions", json={**ASK, **options, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.endswith("data: [DONE]\n\n")
    *parts, last = chunks(stream)
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == said
    assert [part["choices"][0]["finish_reason"] for part in parts if part["choices"][0]["finish_reason"]] == [ended]
    assert last["usage"] == whole["usage"]
    spoken = program.say([ROW])[0]["answer"]
    assert whole["usage"]["prompt_tokens"] > len(ROW["q"])
    assert options or whole["usage"]["completion_tokens"] == len(spoken.ids)


def test_completions_and_responses(client: TestClient, program: Any) -> None:
    rows = [{**INPUTS, "q": words} for words in ("one", "two")]
    said = [text for row in rows for text in program.generate([row])]
    asked = {"model": "team", "inputs": INPUTS}
    many = client.post("/v1/completions", json={**asked, "prompt": ["one", "two"], "n": 2}).json()
    assert [one["text"] for one in many["choices"]] == [said[0], said[0], said[1], said[1]]
    whole = client.post("/v1/responses", json={**asked, "input": "one"}).json()
    assert whole["output"][0]["content"][0]["text"] == said[0]
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]}]
    stream = chunks(client.post("/v1/responses", json={**asked, "input": items, "stream": True}))
    assert [one["sequence_number"] for one in stream] == list(range(len(stream)))
    assert "".join(one["delta"] for one in stream if one["type"] == "response.output_text.delta") == said[0]
    assert stream[-1]["response"]["usage"] == whole["usage"]
    assert stream[-1]["type"] == f"response.{whole['status']}"


def test_log_probabilities(client: TestClient, program: Any) -> None:
    spoken = program.say([ROW])[0]["answer"]
    scores = pytest.approx(spoken.scores[: len(spoken.ids)], abs=1e-3)
    whole = client.post("/v1/chat/completions", json={**ASK, "logprobs": True}).json()["choices"][0]
    assert [token["logprob"] for token in whole["logprobs"]["content"]] == scores
    assert "".join(token["token"] for token in whole["logprobs"]["content"]) == spoken.text.rstrip("\ufffd")
    stream = chunks(client.post("/v1/chat/completions", json={**ASK, "logprobs": True, "stream": True}))
    found = [part["choices"][0]["logprobs"] for part in stream]
    assert [token["logprob"] for one in found if one for token in one["content"]] == scores


TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "temm"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"messages": []}, 400, "inputs.q"),
        ({"messages": TALK}, 400, "messages"),
        ({"messages": TALK[1:2]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "b" * 2500}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "b" * 5000}]}, 413, None),
        ({"inputs": None}, 400, "inputs.q"),
        ({"inputs": {"contxt": "x"}}, 400, "inputs.contxt"),
        ({"inputs": {"context": []}}, 400, "inputs.context"),
        ({"inputs": {**INPUTS, "q": "read in place of the message"}}, 400, "inputs"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_completion_tokens": 0}, 400, "max_completion_tokens"),
        ({"stop": [""]}, 400, "stop"),
        ({"n": 0}, 400, "n"),
        ({"n": 6, "stream": True}, 200, None),
        ({"n": 7}, 400, "n"),
        ({"top_logprobs": 3}, 400, "top_logprobs"),
        ({"tools": [{}]}, 400, "tools"),
        ({"temprature": 1}, 400, "temprature"),
        ({"seed": "1"}, 400, "seed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_its_name(
    client: TestClient, change: dict[str, Any], status: int, param: str | None
) -> None:
    response = client.post("/v1/chat/completions", json={**ASK, **change})
    assert response.status_code == status, response.text
    if status != 200:
        assert response.json()["error"]["param"] == param
        assert response.json()["error"]["message"]


def test_other_errors_are_objects_too(client: TestClient) -> None:
    lost = client.post("/v1/chat/completion", json=ASK)
    assert (lost.status_code, lost.json()["error"]["type"]) == (404, "invalid_request_error")
    assert "did you mean `/v1/chat/completions`?" in lost.json()["error"]["message"]
    by_get = client.get("/v1/chat/completions")
    assert (by_get.status_code, "POST" in by_get.json()["error"]["message"]) == (405, True)
    misspelt = client.post("/v1/chat/completions", json={"model": "team", "mesages": []}).json()["error"]
    assert (misspelt["param"], "did you mean `messages`?" in misspelt["message"]) == ("mesages", True)
    numbers = client.post("/v1/completions", json={"model": "team", "prompt": ["a", 1]}).json()["error"]
    assert numbers["param"] == "prompt.1"
    broken = client.post("/v1/completions", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "body")
    named = client.get("/v1/models/none", headers={"x-request-id": "mine"})
    assert (named.status_code, named.headers["x-request-id"]) == (404, "mine")


def test_models_health_and_metrics(client: TestClient) -> None:
    (about,) = client.get("/v1/models").json()["data"]
    assert about == client.get("/v1/models/team").json()
    assert (about["id"], about["inputs"]) == ("team", ["context", "q"])
    assert client.get("/health").json() == {"status": "ok"}
    before = client.get("/metrics").text
    client.post("/v1/chat/completions", json=ASK)
    name = 'masc_requests_total{path="/v1/chat/completions",status="200"}'

    def count(text: str) -> float:
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0)

    assert count(client.get("/metrics").text) == count(before) + 1
    assert 'masc_rows{model="team"} 0.0' in client.get("/metrics").text


def test_a_full_queue_a_timeout_a_key_and_a_server_that_goes_down(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.base("b"), "stop_ids", frozenset())
    served = Served("team", program, size=2, most=1)
    door = app_of([served], Limits(seconds=0.2), key="secret")
    with TestClient(door, headers={"authorization": "Bearer secret"}) as client:
        assert client.get("/v1/models", headers={"authorization": "Bearer other"}).status_code == 401
        assert client.get("/health", headers={"authorization": ""}).status_code == 200
        found: list[Any] = []
        long = {**ASK, "max_tokens": 100_000}
        waiting = threading.Thread(
            target=lambda: found.append(client.post("/v1/chat/completions", json={**long, "n": 3}))
        )
        waiting.start()
        while served.worker.rows < 3:
            pass
        full = client.post("/v1/chat/completions", json=ASK)
        assert (full.status_code, "retry-after" in full.headers) == (429, True)
        waiting.join()
        assert found[0].status_code == 504
        assert served.worker.rows == 0
        late = client.post("/v1/chat/completions", json={**long, "stream": True})
        told = chunks(late)[-1] if late.status_code == 200 else late.json()  # before it began, or in the stream
        assert told["error"]["code"] == "timeout"
        door.draining = True
        assert client.post("/v1/chat/completions", json=ASK).status_code == 503


def test_wrong_usage(masc: Command, folder: Path) -> None:
    assert "courier" in masc("serve", "courier.mas", "courier.mas").err
    (folder / "empty").write_text("\n")
    assert masc("serve", "courier.mas", "--api-key-file", "empty").code == 2
    assert masc("serve", "courier.mas", "--api-key-file", "none").code == 2
    with listening.bound(listening.LOOPBACK, 0, 1) as place:
        assert masc("serve", "courier.mas", "--port", place.getsockname()[1]).code == 2


# -- over sockets ------------------------------------------------------------------------------------------------------


def called(address: tuple[str, int], **options: Any) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=60)
    body = json.dumps({**ASK, **options})
    connection.request("POST", "/v1/chat/completions", body, JSON)
    return connection.getresponse()


def test_who_hangs_up_frees_the_place_and_whoever_runs_at_the_end_is_answered(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.base("b"), "stop_ids", frozenset())
    served = Served("team", program, size=4, most=2)
    with listening.bound(listening.LOOPBACK, 0, 16) as place:
        running = server(app_of([served], Limits(seconds=60)), place, grace=60)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        address = place.getsockname()
        long = called(address, max_tokens=1500, stream=True, stop=["no such text"])
        assert long.readline().startswith(b"data: ")
        whole = http.client.HTTPConnection(*address, timeout=60)
        whole.request("POST", "/v1/chat/completions", json.dumps({**ASK, "max_tokens": 1500}), JSON)
        while served.worker.rows < 2:
            pass
        long.close()
        whole.close()
        while served.worker.rows:
            pass
        (said,) = program.generate([ROW])
        last = called(address, stream=True)
        running.handle_exit(signal.SIGTERM, None)
        told = [json.loads(line[6:]) for line in last.read().splitlines() if line.startswith(b"data: {")]
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in told) == said
        thread.join(60)
        assert not thread.is_alive()
        assert not served.worker.alive
