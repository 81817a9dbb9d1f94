"""The server: the protocol's requests, each answered by a pure function over what is open and what is on disk."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time

import psutil
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from masc.dsl.diagnostics import errors
from masc.dsl.rewrite import rewritten
from masc.lsp.actions import actions
from masc.lsp.completion import complete
from masc.lsp.convert import Convert
from masc.lsp.hover import hover
from masc.lsp.index import Index
from masc.lsp.outline import outline
from masc.lsp.positions import Encoding
from masc.lsp.rename import RefusedError, renamable, rename
from masc.lsp.state import State, is_ours, path_of
from masc.lsp.texts import Parsed
from masc.version import __version__

PAUSE = 0.1
"""Seconds without a key after which a text is checked."""
PARENT = 2.0
"""Seconds between looks at whether the editor is still there."""
_ENCODINGS: dict[str, Encoding] = {"utf-8": "utf-8", "utf-32": "utf-32"}


class Server(LanguageServer):
    """A language server with masc's state. Documents come whole, since pygls cuts lines in other places than the
    protocol says, and the files are small."""

    def __init__(self) -> None:
        super().__init__("masc", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.state = State()
        self.edits = 0

    @property
    def convert(self) -> Convert:
        encoding = str(self.server_capabilities.position_encoding)
        return Convert(self.state.uri, _ENCODINGS.get(encoding, "utf-16"))

    def place(
        self, document: types.TextDocumentIdentifier, position: types.Position
    ) -> tuple[Index, str, str, int] | None:
        """The index, and path, text and offset of a place; None where the file cannot be read."""
        if not is_ours(document.uri):
            return None
        self.state.use(document.uri)
        index, path = self.state.index(), path_of(document.uri)
        if path not in index.files:
            return None
        text = index.files[path].source.text
        return index, path, text, self.convert.offset(text, position)

    def parsed(self, uri: str) -> Parsed | None:
        if not is_ours(uri):
            return None
        self.state.use(uri)
        return self.state.index().files.get(path_of(uri))

    def hold(self, uri: str) -> None:
        self.state.hold(uri, self.workspace.get_text_document(uri).source)

    def look_around(self) -> None:
        """Take note of the folders that the editor has open."""
        uris = list(self.workspace.folders) or [uri for uri in (self.workspace.root_uri,) if uri]
        self.state.folders = tuple(path_of(uri) for uri in uris if is_ours(uri))
        self.state.forget()

    def tell(self) -> None:
        """Send the diagnostics of all files that they may have changed of."""
        for path, found in self.state.check().items():
            told = [self.convert.diagnostic(diagnostic) for diagnostic in found]
            for uri in self.state.uris(path):
                known = self.workspace.text_documents.get(uri)
                version = None if known is None else known.version
                self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, told, version))


def make() -> Server:
    """The server, ready to be started."""
    server = Server()

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        # An editor that cannot be seen, since it runs on another machine or in another container, is not followed.
        if params.process_id is not None and psutil.pid_exists(params.process_id):
            threading.Thread(target=_follow, args=(params.process_id,), daemon=True).start()

    @server.feature(types.INITIALIZED)
    def initialized(_: types.InitializedParams) -> None:
        server.look_around()

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def did_change_folders(_: types.DidChangeWorkspaceFoldersParams) -> None:
        server.look_around()

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        server.hold(params.text_document.uri)
        server.state.forget()
        server.tell()

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def did_change(params: types.DidChangeTextDocumentParams) -> None:
        server.hold(params.text_document.uri)
        server.edits += 1
        mine = server.edits
        await asyncio.sleep(PAUSE)
        if mine == server.edits:
            server.tell()

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        server.state.drop(uri)
        server.tell()
        if is_ours(uri) and uri not in server.state.uris(path_of(uri)):  # another document of the file is told of
            server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(_: types.DidSaveTextDocumentParams) -> None:
        server.state.forget()
        server.tell()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def did_change_files(_: types.DidChangeWatchedFilesParams) -> None:
        server.state.forget()
        server.tell()

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def on_hover(params: types.HoverParams) -> types.Hover | None:
        if (place := server.place(params.text_document, params.position)) is None:
            return None
        index, path, text, offset = place
        found = hover(index, server.state.compile, path, offset)
        return server.convert.hover(found, text) if found else None

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    def on_definition(params: types.DefinitionParams) -> list[types.Location]:
        if (place := server.place(params.text_document, params.position)) is None:
            return []
        index, path, _, offset = place
        if (target := index.imported(path, offset)) is not None:
            start = types.Position(0, 0)
            return [types.Location(server.state.uri(target), types.Range(start, start))]
        mention = index.at(path, offset)
        found = index.definitions(mention.symbols) if mention else ()
        return [server.convert.location(each.span) for _, each in found]

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    def on_references(params: types.ReferenceParams) -> list[types.Location]:
        if (place := server.place(params.text_document, params.position)) is None:
            return []
        index, path, _, offset = place
        mention = index.at(path, offset)
        found = index.of(mention.symbols, params.context.include_declaration) if mention else ()
        return [server.convert.location(each.span) for _, each in found]

    @server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def on_prepare_rename(params: types.PrepareRenameParams) -> types.Range | None:
        if (place := server.place(params.text_document, params.position)) is None:
            return None
        index, path, _, offset = place
        try:
            return server.convert.range_at(renamable(index, path, offset).span)
        except RefusedError:
            return None

    @server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def on_rename(params: types.RenameParams) -> types.WorkspaceEdit | None:
        if (place := server.place(params.text_document, params.position)) is None:
            return None
        index, path, _, offset = place
        try:
            return server.convert.workspace_edit(rename(index, path, offset, params.new_name))
        except RefusedError as refused:
            raise JsonRpcInvalidParams(str(refused)) from None

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION,
        types.CompletionOptions(trigger_characters=list('{("[:=>/'), resolve_provider=False),
    )
    def on_completion(params: types.CompletionParams) -> types.CompletionList | None:
        if (place := server.place(params.text_document, params.position)) is None:
            return None
        index, path, text, offset = place
        return server.convert.completion(complete(index, path, offset), text)

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def on_symbols(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        parsed = server.parsed(params.text_document.uri)
        return [server.convert.symbol(entry) for entry in outline(parsed.file)] if parsed and parsed.file else []

    @server.feature(types.TEXT_DOCUMENT_FORMATTING)
    def on_formatting(params: types.DocumentFormattingParams) -> list[types.TextEdit]:
        parsed = server.parsed(params.text_document.uri)
        if parsed is None or parsed.file is None or errors(parsed.diagnostics):
            return []
        text = parsed.source.text
        done = rewritten(parsed.file) if parsed.source.path.endswith(".mas") else text
        return [types.TextEdit(server.convert.range_of(text, 0, len(text)), done)] if done != text else []

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix])
    )
    def on_code_action(params: types.CodeActionParams) -> list[types.CodeAction]:
        if (parsed := server.parsed(params.text_document.uri)) is None:
            return []
        path = path_of(params.text_document.uri)
        text, range_ = parsed.source.text, params.range
        start, end = (server.convert.offset(text, place) for place in (range_.start, range_.end))
        found = actions(server.state.diagnostics(path), start, end)
        return [server.convert.code_action(action, path) for action in found]

    return server


def _follow(process: int) -> None:
    """End this process once another is gone, as the protocol wants: an editor that crashed says no farewell."""
    while psutil.pid_exists(process):
        time.sleep(PARENT)
    os._exit(1)


def serve() -> None:
    """Answer on standard input and output until the editor says that it is enough.

    The protocol gets a standard output of its own: whatever else is printed goes to standard error.
    """
    logging.getLogger("pygls").setLevel(logging.WARNING)
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    make().start_io(os.fdopen(os.dup(0), "rb"), answers)
