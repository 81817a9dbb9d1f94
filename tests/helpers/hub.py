"""A hub of one's own on this machine: as much of the Hugging Face hub as pushing and pulling a repository ask of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest

TOKEN = "hf_loopback"
Files = dict[str, bytes]


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, Files] = field(default_factory=lambda: {"0" * 40: {}})
    summaries: list[str] = field(default_factory=list)

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.branches.get(revision, revision)]


@dataclass
class Hub:
    """`large`: names of files that are sent as large ones; `refuse`: a status that every request to write is given."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    large: str = r".*\.safetensors"
    refuse: int | None = None
    address: str = ""


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            try:
                if self.command in ("POST", "PUT") and hub.refuse is not None:
                    raise _RefusedError(hub.refuse, message="not yours")
                if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/large/"):
                    raise _RefusedError(401, message="who are you?")
                status, headers, data = self._answer(path, body)
            except _RefusedError as why:
                status, data = why.status, json.dumps({"error": why.message}).encode()
                headers = {"X-Error-Code": why.code, "X-Error-Message": why.message}
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

        def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                status = 409 if name in hub.repositories else 200
                hub.repositories.setdefault(name, Repository(asked.get("visibility") == "private"))
                return _json({"url": f"{hub.address}/{name}"}, status)
            if path == "/api/validate-yaml":
                return _json({"errors": [], "warnings": []})
            if found := re.fullmatch(r"/large/(\w+)", path):
                hub.objects[found[1]] = body
                return _json({})
            if found := re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git/info/lfs/objects/batch|/resolve/([^/]+)/(.+))", path):
                name, revision, file = found.groups()
                return self._file(_repository(name), revision, file) if file else self._batch(body)
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/([^/]+))?", path):
                name, what, revision = found.groups()
                return self._repository(name, _repository(name), what or "revision", revision or "main", body)
            raise _RefusedError(404, message=path)

        def _repository(self, name: str, repository: Repository, what: str, revision: str, body: bytes) -> Any:
            if what == "branch":
                repository.branches.setdefault(revision, repository.branches["main"])
                return _json({})
            if what == "preupload":
                asked = [file["path"] for file in json.loads(body)["files"]]
                modes = {path: "lfs" if re.fullmatch(hub.large, path) else "regular" for path in asked}
                return _json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
            if what == "commit":
                commit = _commit(hub, repository, revision, [json.loads(line) for line in body.splitlines()])
                address = f"{hub.address}/{name}/commit/{commit}"
                return _json({"commitUrl": address, "commitOid": commit, "pullRequestUrl": None})
            commit = repository.branches.get(revision, revision)
            if commit not in repository.commits:
                raise _RefusedError(404, "RevisionNotFound")
            if what == "tree":
                return _json([_entry(path, data) for path, data in repository.commits[commit].items()])
            return _json({"id": name, "sha": commit, "private": repository.private, "siblings": [], "tags": []})

        def _batch(self, body: bytes) -> Any:
            objects = [
                one | {"actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return _json({"transfer": "basic", "objects": objects})

        def _file(self, repository: Repository, revision: str, file: str) -> Any:
            data = repository.files(revision).get(file)
            if data is None:
                raise _RefusedError(404, "EntryNotFound")
            commit = repository.branches.get(revision, revision)
            etag = hashlib.sha256(data).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, data

    def _repository(name: str) -> Repository:
        if name not in hub.repositories:
            raise _RefusedError(404, "RepoNotFound")
        return hub.repositories[name]

    return Handler


def _json(body: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _commit(hub: Hub, repository: Repository, branch: str, lines: list[dict[str, Any]]) -> str:
    files = dict(repository.files(branch))
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "header":
                repository.summaries.append(value["summary"])
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    commit = hashlib.sha1(json.dumps([len(repository.commits), *sorted(files)]).encode()).hexdigest()
    repository.commits[commit] = files
    repository.branches[branch] = commit
    return commit


@contextmanager
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that huggingface_hub talks to until the block ends, with a token that may do everything."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    point(monkeypatch, hub.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """huggingface_hub reads its environment when it is imported, which has long been done."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
