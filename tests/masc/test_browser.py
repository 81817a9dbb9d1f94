"""The page in a real browser, headless: what is clicked, moved, saved and redrawn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from masc.backends.diagram.page import html
from masc.compiler.pipeline import compile_file

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
EVIL = "</script><script>document.title = 'broken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def debate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = compile_file(ROOT / "examples" / "debate" / "debate.mas").graph
    assert graph is not None
    file = tmp_path_factory.mktemp("page") / "debate.html"
    file.write_text(html(graph), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page; whatever a script complains about fails the test."""
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield opened
    opened.close()
    assert not complaints


def percent(page: Any) -> int:
    return int(page.locator("#percent").inner_text().rstrip(" %"))


def place(page: Any) -> str:
    return str(page.locator(".sheet:not([hidden])").evaluate("node => node.style.transform"))


def test_what_is_clicked_is_told(page: Any, debate: Path) -> None:
    page.goto(debate.as_uri())
    page.locator('.sheet:not([hidden]) [data-key="agent steps"]').click()
    panel = page.locator("#panel")
    assert panel.locator("h2").inner_text() == "steps"
    assert "{question}\nList the steps to take." in panel.inner_text()
    assert page.locator(".node.chosen").first.get_attribute("data-key") == "agent steps"
    page.locator('[data-key="edge critic -> solver : kv"] text').first.click()
    assert panel.locator("h2").inner_text() == "critic -> solver"
    assert "latents" in panel.inner_text()
    page.get_by_role("button", name="Unrolled").click()
    page.locator('[data-key="agent solver#2"]').click()
    assert panel.locator("h2").inner_text() == "solver#2"


def test_it_is_moved_and_zoomed_by_mouse_buttons_and_keys(page: Any, debate: Path) -> None:
    page.goto(debate.as_uri())
    fitting, start = place(page), percent(page)
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -300)
    assert percent(page) > start
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Fit").click()
    assert place(page) == fitting
    page.mouse.move(40, 700)
    page.mouse.down()
    page.mouse.move(140, 640, steps=4)
    page.mouse.up()
    moved = place(page)
    assert moved != fitting
    page.locator("#stage").focus()
    page.keyboard.press("ArrowLeft")
    assert place(page) != moved
    page.keyboard.press("0")
    assert place(page) == fitting
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".chosen").count() >= 1


def test_svg_and_png_are_saved(page: Any, debate: Path, tmp_path: Path) -> None:
    page.goto(debate.as_uri())
    for suffix in ("svg", "png"):
        with page.expect_download() as waiting:
            page.locator(f"#{suffix}").click()
        assert waiting.value.suggested_filename == f"debate.{suffix}"
        waiting.value.save_as(tmp_path / f"debate.{suffix}")
    words = "".join(ElementTree.parse(tmp_path / "debate.svg").getroot().itertext())
    assert "solver" in words
    assert "var(" not in words
    assert (tmp_path / "debate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 30)")])
def test_light_and_dark(browser: Any, debate: Path, scheme: str, background: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(debate.as_uri())
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(colour) == background
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(colour) != background
    page.close()


def test_every_button_has_a_name(page: Any, debate: Path) -> None:
    page.goto(debate.as_uri())
    for button in page.get_by_role("button").all():
        name = button.get_attribute("aria-label") or button.inner_text()
        assert name.strip()


def test_a_prompt_cannot_break_out(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "evil.mas"
    file.write_text(
        f'mas 1\nmodel m = "no-one/x"\nagent a on m {{\n  user "{{q}} {EVIL}"\n  answer\n}}\n'
        "graph evil(q) -> answer {\n  a\n}\n"
    )
    graph = compile_file(file).graph
    assert graph is not None
    (tmp_path / "evil.html").write_text(html(graph), encoding="utf-8")
    page.goto((tmp_path / "evil.html").as_uri())
    page.locator('[data-key="agent a"]').click()
    assert EVIL in page.locator("#panel pre").inner_text()
    assert page.title() == "evil"
    assert page.locator("img").count() == 0


def test_the_live_page_follows_its_file(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "team.mas"
    text = (
        'mas 1\nmodel m = "no-one/x"\nagent a on m {\n  user "{q} once"\n  answer\n}\ngraph g(q) -> answer {\n  a\n}\n'
    )
    file.write_text(text)
    command = [sys.executable, "-m", "masc", "draw", "--watch", str(file)]
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background inherits deaf ears
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=listens
    ) as running:
        try:
            assert running.stdout is not None
            page.goto(running.stdout.readline().strip())
            page.locator('[data-key="agent a"]').click(timeout=20_000)
            page.get_by_role("button", name="Zoom in").click()
            before = place(page)
            save(file, text.replace("once", "twice"))
            page.locator("#panel pre", has_text="twice").wait_for(timeout=20_000)
            assert place(page) == before
            save(file, text.replace("answer\n}", "answr\n}", 1))
            page.locator("#problems", has_text="^^^^^").wait_for(timeout=20_000)
            assert page.locator('[data-key="agent a"]').count() == 1
            save(file, text)
            page.locator("#problems").wait_for(state="hidden", timeout=20_000)
            page.goto("about:blank")
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0


def save(file: Path, text: str) -> None:
    file.write_text(text)
    stamp = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(stamp, stamp))
