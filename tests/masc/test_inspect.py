"""`masc inspect`: a page that needs nothing else, all of it as JSON, and what is refused before anything is written."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from courier import Command

EVIL = "</span><script>alert(1)</script> <img src=x>"
TURNED = "ab\u202e"
"""With a character that turns the direction of what follows."""


class Balanced(HTMLParser):
    """The elements of a page, each of which must be closed in its turn; and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {name for name, _ in attrs} & {"src", "onload", "onerror", "onclick"}
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_and_all_of_it_as_json(masc: Command, folder: Path) -> None:
    asked = ["--input", f"code={EVIL}", "--layers", "0,last", "--top", "3", "--answer", TURNED, "--no-text"]
    done = masc("inspect", "courier.mas", *asked, "-o", "page.html", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    sender, receiver = found["team"]["activations"]
    assert "".join(token["text"] for token in sender["prompt"] if token["whose"] == "code") == EVIL
    assert [[depth["layer"] for depth in latent["depths"]] for latent in sender["latents"]] == [[0, 2], [0, 2]]
    assert all(len(depth["words"]) == 3 for latent in sender["latents"] for depth in latent["depths"])
    first = receiver["sources"][0]
    assert (first["activation"], first["part"], first["via"]) == ("sender#1", "latents", ["sender"])
    assert found["team"]["given"]
    assert found["team"]["answer"] == TURNED
    assert found["text"] is None
    assert found["run"]["weights"] == {"fresh": True, "seed": 0}
    page = (folder / "page.html").read_text(encoding="utf-8")
    parsed = Balanced()
    parsed.feed(page)
    assert not parsed.open
    assert not parsed.seen & {"script", "link", "img", "iframe", "form"}
    assert "default-src 'none'" in page
    assert page.count("url(") == page.count("url(#"), "places in the page itself"
    assert "\u202e" not in page
    assert "<script>alert(1)</script>" in parsed.text
    for word in ("sender#1", "receiver#1", "attention while answering", "what each edge carried", "2 latent steps"):
        assert word in parsed.text


def test_what_is_refused_writes_nothing(masc: Command, folder: Path) -> None:
    for options, code, told in (
        (["--input", "code=x", "--layers", "0,lst"], 2, "`lst` is no layer"),
        (["--input", "code=x", "--layers", "9"], 1, "E0648"),
        (["--input", "code=x", "--output", "anser"], 1, "E0611"),
        (["--input", "cod=x"], 1, "E0604"),
    ):
        done = masc("inspect", "courier.mas", "-o", "page.html", *options)
        assert (done.code, told in done.err) == (code, True), done.err
    named = masc("inspect", "courier.mas", "--input", "code=x", "-o", "page.pdf")
    assert (named.code, "name it `page.html`" in named.err) == (1, True), named.err
    assert "E0612" in masc("inspect", "courier.mas", "--input", "code=x", "-o", "courier.mas").err
    assert not (folder / "page.html").exists()
