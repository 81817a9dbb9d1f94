"""Plain data to the protocol's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lsprotocol import types

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.render import short
from masc.dsl.source import Span
from masc.lsp.actions import Action
from masc.lsp.completion import Item, Shape
from masc.lsp.hover import Hover
from masc.lsp.outline import Entry, Sort
from masc.lsp.positions import Encoding, offset, position
from masc.lsp.rename import Edit
from masc.lsp.texts import real

_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
}
_ITEMS: dict[Shape, types.CompletionItemKind] = {
    "keyword": types.CompletionItemKind.Keyword,
    "agent": types.CompletionItemKind.Class,
    "template": types.CompletionItemKind.Function,
    "model": types.CompletionItemKind.Module,
    "param": types.CompletionItemKind.Constant,
    "input": types.CompletionItemKind.Variable,
    "output": types.CompletionItemKind.Variable,
    "option": types.CompletionItemKind.Property,
    "word": types.CompletionItemKind.EnumMember,
    "file": types.CompletionItemKind.File,
}
_SORTS: dict[Sort, types.SymbolKind] = {
    "import": types.SymbolKind.Package,
    "model": types.SymbolKind.Module,
    "param": types.SymbolKind.Constant,
    "agent": types.SymbolKind.Class,
    "template": types.SymbolKind.Function,
    "member": types.SymbolKind.Property,
    "graph": types.SymbolKind.Namespace,
    "edge": types.SymbolKind.Event,
    "repeat": types.SymbolKind.Operator,
    "train": types.SymbolKind.Object,
    "setting": types.SymbolKind.Property,
}


@dataclass(frozen=True)
class Convert:
    """`uri`: under which the editor knows a real path; `encoding`: of its columns."""

    uri: Callable[[str], str]
    encoding: Encoding

    def range_of(self, text: str, start: int, end: int) -> types.Range:
        first, last = (position(text, offset, self.encoding) for offset in (start, end))
        return types.Range(types.Position(*first), types.Position(*last))

    def offset(self, text: str, place: types.Position) -> int:
        return offset(text, place.line, place.character, self.encoding)

    def range_at(self, span: Span) -> types.Range:
        return self.range_of(span.source.text, span.start, span.end)

    def location(self, span: Span) -> types.Location:
        return types.Location(self.uri(real(span.source.path)), self.range_at(span))

    def diagnostic(self, found: Diagnostic) -> types.Diagnostic:
        """One without a place stands at the start of the file."""
        start = types.Position(0, 0)
        related = [
            types.DiagnosticRelatedInformation(self.location(label.span), label.text)
            for label in found.labels
            if label.span.source.path != "--set"
        ]
        return types.Diagnostic(
            range=self.range_at(found.span) if found.span else types.Range(start, start),
            message=short(found.message if found.hint is None else f"{found.message}\n{found.hint}"),
            severity=_SEVERITIES[found.severity],
            code=found.code,
            source="masc",
            related_information=related or None,
        )

    def hover(self, found: Hover, text: str) -> types.Hover:
        contents = types.MarkupContent(types.MarkupKind.Markdown, found.text)
        return types.Hover(contents, self.range_of(text, found.start, found.end))

    def completion(self, items: Iterable[Item], text: str) -> types.CompletionList:
        """In the order in which they came, which is kept by `sort_text`."""
        return types.CompletionList(
            is_incomplete=False,
            items=[
                types.CompletionItem(
                    label=item.label,
                    kind=_ITEMS[item.shape],
                    detail=item.detail or None,
                    documentation=item.about or None,
                    sort_text=f"{place:04}",
                    text_edit=types.TextEdit(self.range_of(text, item.start, item.end), item.text),
                )
                for place, item in enumerate(items)
            ],
        )

    def workspace_edit(self, edits: Mapping[str, Iterable[Edit]]) -> types.WorkspaceEdit:
        """Edits by real path."""
        return types.WorkspaceEdit(
            changes={
                self.uri(path): [types.TextEdit(self.range_at(edit.span), edit.text) for edit in changed]
                for path, changed in edits.items()
            }
        )

    def code_action(self, action: Action, path: str) -> types.CodeAction:
        return types.CodeAction(
            title=action.title,
            kind=types.CodeActionKind.QuickFix,
            diagnostics=[self.diagnostic(action.diagnostic)],
            is_preferred=True,
            edit=self.workspace_edit({path: [action.edit]}),
        )

    def symbol(self, entry: Entry) -> types.DocumentSymbol:
        return types.DocumentSymbol(
            name=entry.name,
            detail=entry.detail or None,
            kind=_SORTS[entry.sort],
            range=self.range_at(entry.span),
            selection_range=self.range_at(entry.name_span),
            children=[self.symbol(child) for child in entry.children] or None,
        )
