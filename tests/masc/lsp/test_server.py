"""`masc lsp` as an editor uses it: a process, the protocol on its standard input and output."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient

from editor import MAIN, ROLES

Some = TypeVar("Some")
PATIENCE = 30.0
NOTES = {"I0501", "W0205", "W0303"}
"""What there is to say of MAIN, in which nothing is wrong."""


class Editor:
    """A client in its own event loop, and the diagnostics that it was sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = asyncio.Runner()
        self.client = LanguageClient("test", "1")
        self.told: dict[str, types.PublishDiagnosticsParams] = {}
        self.news = asyncio.Event()

        @self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def publish(params: types.PublishDiagnosticsParams) -> None:
            self.told[params.uri] = params
            self.news.set()

    def run(self, coroutine: Coroutine[Any, Any, Some]) -> Some:
        async def bounded() -> Some:
            return await asyncio.wait_for(coroutine, PATIENCE)

        return self.runner.run(bounded())

    def start(self) -> types.InitializeResult:
        async def go() -> types.InitializeResult:
            await self.client.start_io(sys.executable, "-m", "masc", "lsp")
            folders = [types.WorkspaceFolder(self.folder.as_uri(), "work")]
            general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf16])
            result = await self.client.initialize_async(
                types.InitializeParams(types.ClientCapabilities(general=general), workspace_folders=folders)
            )
            self.client.initialized(types.InitializedParams())
            return result

        return self.run(go())

    def stop(self) -> int | None:
        async def go() -> int | None:
            process = self.client._server
            assert process is not None
            await self.client.shutdown_async(None)
            self.client.exit(None)
            await process.wait()
            await self.client.stop()
            return process.returncode

        code = self.run(go())
        self.runner.close()
        return code

    def open(self, path: Path, text: str, version: int = 1) -> types.TextDocumentIdentifier:
        language = "mas" if path.suffix == ".mas" else "yaml"
        item = types.TextDocumentItem(path.as_uri(), language, version, text)

        async def go() -> None:
            self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

        self.run(go())
        return types.TextDocumentIdentifier(item.uri)

    def change(self, path: Path, text: str, version: int) -> None:
        document = types.VersionedTextDocumentIdentifier(version, path.as_uri())
        change = types.TextDocumentContentChangeWholeDocument(text)

        async def go() -> None:
            self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))

        self.run(go())

    def close(self, path: Path) -> None:
        document = types.TextDocumentIdentifier(path.as_uri())

        async def go() -> None:
            self.client.text_document_did_close(types.DidCloseTextDocumentParams(document))

        self.run(go())

    def diagnostics(self, path: Path, version: int | None = None) -> list[types.Diagnostic]:
        """What the server says of a file, of a version of it where one is given."""

        async def go() -> list[types.Diagnostic]:
            while path.as_uri() not in self.told or version not in (None, self.told[path.as_uri()].version):
                self.news.clear()
                await self.news.wait()
            return list(self.told[path.as_uri()].diagnostics)

        return self.run(go())


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """One server for all the tests, each of which opens files of its own."""
    editor = Editor(tmp_path_factory.mktemp("work"))
    editor.start()
    yield editor
    assert editor.stop() == 0


@pytest.fixture
def work(editor: Editor, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with an imported file on disk; what a test opened is closed in the end."""
    folder = editor.folder / request.node.name.partition("[")[0]
    folder.mkdir()
    (folder / "roles.mas").write_text(ROLES, encoding="utf-8")
    yield folder
    for uri in {uri for uri in editor.told if uri.startswith(folder.as_uri())}:
        editor.close(folder / uri.rpartition("/")[2])
    shutil.rmtree(folder)


def at(text: str, before: str) -> types.Position:
    """The place of some words, in UTF-16 units."""
    lines = text[: text.index(before)].split("\n")
    return types.Position(len(lines) - 1, len(lines[-1].encode("utf-16-le")) // 2)


def span(text: str, words: str, within: str | None = None) -> types.Range:
    first = at(text, within or words)
    return types.Range(first, types.Position(first.line, first.character + len(words.encode("utf-16-le")) // 2))


def test_several_mistakes_are_told_at_their_places(editor: Editor, work: Path) -> None:
    wrong = (
        MAIN.replace("🙂🙂 {question}", "🙂🙂 {qestion}")
        .replace("tutor -> critic", "tuttor -> critic")
        .replace("solver -> answer", "solver -> ")
        .replace("batch 4", "bach 4")
    )
    editor.open(work / "relay.mas", wrong)
    found = {str(d.code): d for d in editor.diagnostics(work / "relay.mas")}
    assert {"E0103", "E0201", "E0401"} <= set(found)
    assert found["E0201"].range == span(wrong, "tuttor")
    assert found["E0201"].severity == types.DiagnosticSeverity.Error
    assert "did you mean `tutor`?" in found["E0201"].message
    assert found["E0401"].range == span(wrong, "bach")
    assert all(d.source == "masc" for d in found.values())


def test_a_place_behind_an_emoji_is_counted_in_utf16(editor: Editor, work: Path) -> None:
    wrong = MAIN.replace("🙂🙂 {question}", "🙂🙂 {qestion}")
    editor.open(work / "relay.mas", wrong)
    (found,) = [d for d in editor.diagnostics(work / "relay.mas") if d.code == "E0207"]
    assert found.range == span(wrong, "{qestion}")
    assert found.range.start.character == 13, "two emojis are four units"


def test_typing_is_followed_and_a_mended_file_is_clean(editor: Editor, work: Path) -> None:
    path = work / "relay.mas"
    editor.open(path, MAIN.replace("tutor -> critic", "tuttor -> critic"))
    assert "E0201" in [d.code for d in editor.diagnostics(path, 1)]
    for version in range(2, 6):
        editor.change(path, MAIN.replace("tutor -> critic", "t" * version), version)
    editor.change(path, MAIN, 6)
    assert {d.code for d in editor.diagnostics(path, 6)} == NOTES


def test_an_imported_file_is_told_of_as_the_editor_holds_it(editor: Editor, work: Path) -> None:
    editor.open(work / "relay.mas", MAIN)
    assert {d.code for d in editor.diagnostics(work / "relay.mas")} == NOTES
    broken = ROLES.replace("depth (align = ridge)", "depht (align = rigde)")
    editor.open(work / "roles.mas", broken)
    found = {str(d.code): d for d in editor.diagnostics(work / "roles.mas")}
    assert set(found) == {"E0201", "E0405"}, "no complaint that it has no graph"
    assert found["E0405"].range == span(broken, "rigde")
    editor.change(work / "roles.mas", ROLES.replace("agent critic", "agent critc"), 2)
    assert editor.diagnostics(work / "roles.mas", 2) == []

    async def until() -> None:
        while "E0209" not in [d.code for d in editor.told[(work / "relay.mas").as_uri()].diagnostics]:
            editor.news.clear()
            await editor.news.wait()

    editor.run(until())


def test_what_is_wrong_in_a_file_that_is_not_open_is_told(editor: Editor, work: Path) -> None:
    (work / "roles.mas").write_text(ROLES.replace("think depth", "think deep", 1), encoding="utf-8")
    editor.open(work / "relay.mas", MAIN)
    (found,) = editor.diagnostics(work / "roles.mas")
    assert found.code == "E0201"
    assert found.related_information is not None
    assert found.related_information[0].location.uri == (work / "relay.mas").as_uri()
    editor.told.pop((work / "roles.mas").as_uri())
    editor.close(work / "relay.mas")
    assert editor.diagnostics(work / "roles.mas") == [], "it is taken back when nothing open imports it"


def test_hover_definition_and_references(editor: Editor, work: Path) -> None:
    document = editor.open(work / "relay.mas", MAIN)
    place = at(MAIN, "critic -> solver")
    hover = editor.run(editor.client.text_document_hover_async(types.HoverParams(document, place)))
    assert hover is not None
    assert isinstance(hover.contents, types.MarkupContent)
    assert "You doubt 🙂 {tutor}" in hover.contents.value
    assert hover.range == span(MAIN, "critic", "critic -> solver")

    found = editor.run(editor.client.text_document_definition_async(types.DefinitionParams(document, place)))
    roles = (work / "roles.mas").as_uri()
    assert found == [types.Location(roles, span(ROLES, "critic"))]

    inside = types.Position(at(MAIN, "roles.mas").line, at(MAIN, "roles.mas").character + 2)
    found = editor.run(editor.client.text_document_definition_async(types.DefinitionParams(document, inside)))
    assert [location.uri for location in found or ()] == [roles]

    behind = at(MAIN, "question}")  # on the line of two emojis
    context = types.ReferenceContext(include_declaration=True)
    places = editor.run(editor.client.text_document_references_async(types.ReferenceParams(context, document, behind)))
    assert places is not None
    assert types.Location(document.uri, span(MAIN, "question")) in places
    assert {location.uri for location in places} == {document.uri, roles}
    assert len(places) == 5


def test_rename_across_files(editor: Editor, work: Path) -> None:
    document = editor.open(work / "relay.mas", MAIN)
    place = at(MAIN, "tutor on")
    ready = editor.run(editor.client.text_document_prepare_rename_async(types.PrepareRenameParams(document, place)))
    assert ready == span(MAIN, "tutor")
    edit = editor.run(editor.client.text_document_rename_async(types.RenameParams(document, place, "guide")))
    assert edit is not None
    assert edit.changes is not None
    assert {change.new_text for changes in edit.changes.values() for change in changes} == {"guide"}
    (behind,) = edit.changes[(work / "roles.mas").as_uri()]
    assert behind.range == span(ROLES, "tutor")
    for bad in ("solver", "two words"):
        with pytest.raises(JsonRpcException, match=r"already means|not a name"):
            editor.run(editor.client.text_document_rename_async(types.RenameParams(document, place, bad)))
    nowhere = types.PrepareRenameParams(document, types.Position(0, 0))
    assert editor.run(editor.client.text_document_prepare_rename_async(nowhere)) is None


def test_completion(editor: Editor, work: Path) -> None:
    text = MAIN.replace("🙂🙂 {question}", "🙂🙂 {")
    document = editor.open(work / "relay.mas", text)
    place = at(text, '"\n  answer (max_tokens')
    found = editor.run(editor.client.text_document_completion_async(types.CompletionParams(document, place)))
    assert isinstance(found, types.CompletionList)
    (item,) = found.items
    assert item.label == "question"
    assert item.text_edit == types.TextEdit(types.Range(place, place), "question}")
    place = at(text, "max_tokens")
    found = editor.run(editor.client.text_document_completion_async(types.CompletionParams(document, place)))
    assert isinstance(found, types.CompletionList)
    assert "temperature" in [item.label for item in found.items]


def test_symbols_and_formatting(editor: Editor, work: Path) -> None:
    untidy = MAIN.replace("  answer (max_tokens = 8)", "answer(max_tokens=8)")
    document = editor.open(work / "relay.mas", untidy)
    symbols = editor.run(editor.client.text_document_document_symbol_async(types.DocumentSymbolParams(document)))
    assert [symbol.name for symbol in symbols or ()][1:] == ["small", "tutor", "solver", "relay", "train"]
    options = types.FormattingOptions(2, True)
    params = types.DocumentFormattingParams(document, options)
    edits = editor.run(editor.client.text_document_formatting_async(params))
    assert edits is not None
    (edit,) = edits
    assert edit.range == types.Range(types.Position(0, 0), types.Position(untidy.count("\n"), 0))
    assert "  answer (max_tokens = 8)\n" in edit.new_text
    editor.change(work / "relay.mas", edit.new_text, 2)
    assert not editor.run(editor.client.text_document_formatting_async(params)), "it is in the style already"
    editor.change(work / "relay.mas", MAIN.replace("graph", "grph"), 3)
    assert not editor.run(editor.client.text_document_formatting_async(params)), "what is wrong is left alone"


def test_a_hint_is_a_code_action(editor: Editor, work: Path) -> None:
    wrong = MAIN.replace("🙂🙂 {question}", "🙂🙂 {qestion}")
    document = editor.open(work / "relay.mas", wrong)
    place = types.Range(at(wrong, "qestion"), at(wrong, "qestion"))
    context = types.CodeActionContext(editor.diagnostics(work / "relay.mas"))
    params = types.CodeActionParams(document, place, context)
    found = editor.run(editor.client.text_document_code_action_async(params))
    assert found is not None
    (action,) = found
    assert isinstance(action, types.CodeAction)
    assert action.title == "Change to `question`"
    assert action.edit is not None
    assert action.edit.changes is not None
    ((uri, (edit,)),) = action.edit.changes.items()
    assert uri == document.uri
    assert edit == types.TextEdit(span(wrong, "qestion"), "question")


def test_yaml_gets_diagnostics_where_it_is_masc(editor: Editor, work: Path) -> None:
    editor.open(work / "team.yaml", "mas: 1\nmodels: {small: no-one/x}\nagnets: {}\n")
    assert "E0121" in [d.code for d in editor.diagnostics(work / "team.yaml")]
    editor.open(work / "other.yaml", "services: [web]\n")
    editor.change(work / "team.yaml", "mas: 1\nmodels: {small: no-one/x}\n", 2)
    assert editor.diagnostics(work / "team.yaml", 2) == []
    assert (work / "other.yaml").as_uri() not in editor.told


def test_text_that_is_nothing_is_survived(editor: Editor, work: Path) -> None:
    for number, text in enumerate(("", "\x00", '"""', "{" * 200, "mas 1 agent", "mas 1\ngraph g() -> a { a -> }")):
        document = editor.open(work / f"x{number}.mas", text)
        editor.diagnostics(work / f"x{number}.mas")
        for line, character in ((0, 0), (0, 99), (9, 9)):
            params = types.CompletionParams(document, types.Position(line, character))
            editor.run(editor.client.text_document_completion_async(params))
            hover = types.HoverParams(document, types.Position(line, character))
            editor.run(editor.client.text_document_hover_async(hover))


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pygls.py").write_text("raise ModuleNotFoundError(name='pygls')\n")
    done = subprocess.run(
        [sys.executable, "-m", "masc", "lsp"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert "pip install pygls" in done.stderr
    assert "Traceback" not in done.stderr


def test_torch_is_not_imported() -> None:
    script = "import sys, masc.lsp.server; print({'torch', 'transformers', 'peft', 'accelerate'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_it_ends_with_the_editor(tmp_path: Path) -> None:
    """An editor that was killed leaves no server, even where the pipes stay open."""
    editor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    server = subprocess.Popen([sys.executable, "-m", "masc", "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        params = {"processId": editor.pid, "capabilities": {}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        server.stdin.write(f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        server.stdin.flush()
        assert server.stdout.readline().startswith(b"Content-Length")
        editor.kill()
        editor.wait()
        assert server.wait(20) == 1
    finally:
        server.kill()


def test_a_comparison_does_not_touch_the_file(editor: Editor) -> None:
    """`git:` documents have the path of the file that they are an old version of."""
    path = editor.folder / "compared.mas"
    document = editor.open(path, MAIN.replace('import "roles.mas" (expert, critic, depth)\n', ""))
    old = types.TextDocumentItem(path.as_uri().replace("file:", "git:"), "mas", 1, "mas 1\nagent worker on m {\n}\n")
    before = editor.diagnostics(path)

    async def go() -> types.Hover | None:
        editor.client.text_document_did_open(types.DidOpenTextDocumentParams(old))
        asked = types.HoverParams(types.TextDocumentIdentifier(old.uri), types.Position(1, 7))
        return await editor.client.text_document_hover_async(asked)

    assert editor.run(go()) is None
    symbols = editor.run(editor.client.text_document_document_symbol_async(types.DocumentSymbolParams(document)))
    assert "tutor" in str(symbols)
    assert editor.diagnostics(path) == before
    assert old.uri not in editor.told
