"""What the server remembers between requests."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest

from editor import MAIN, ROLES
from masc.lsp.state import State, is_ours, path_of
from masc.lsp.texts import real


def opened(folder: Path, **texts: str) -> State:
    state = State((str(folder),))
    for name, text in texts.items():
        state.hold((folder / f"{name}.mas").as_uri(), text)
    return state


def test_asking_for_diagnostics_does_not_hide_that_others_are_gone(tmp_path: Path) -> None:
    roles = tmp_path / "roles.mas"
    roles.write_text(ROLES.replace("think depth", "think deep", 1), encoding="utf-8")
    state = opened(tmp_path, relay=MAIN)
    assert [d.code for d in state.check()[real(roles)]] == ["E0201"]
    state.hold((tmp_path / "relay.mas").as_uri(), MAIN.replace('import "roles.mas"', 'import "gone.mas"'))
    assert state.diagnostics(real(roles)) == ()
    assert state.check()[real(roles)] == (), "so that the editor hears of it"
    assert real(roles) not in state.check()


def test_what_two_programs_say_of_one_file_is_told_once(tmp_path: Path) -> None:
    wrong = ROLES.replace("align = ridge", "align = rigde")
    state = opened(tmp_path, relay=MAIN, other=MAIN, roles=wrong)
    found = state.check()[real(tmp_path / "roles.mas")]
    assert [d.code for d in found] == ["E0405"]
    assert found[0].labels == (), "as the file itself says it, without who imports it"


def test_a_closed_document_is_what_is_on_disk(tmp_path: Path) -> None:
    (tmp_path / "roles.mas").write_text(ROLES, encoding="utf-8")
    state = opened(tmp_path, relay=MAIN, roles=ROLES.replace("critic", "judge"))
    main = real(tmp_path / "relay.mas")
    assert "E0209" in [d.code for d in state.check()[main]]
    state.drop((tmp_path / "roles.mas").as_uri())
    assert "E0209" not in [d.code for d in state.check()[main]]


def test_documents_by_their_uris(tmp_path: Path) -> None:
    path = tmp_path / "a b ü.mas"
    assert path_of(path.as_uri()) == real(path)
    assert path_of("untitled:Untitled-1") == real("untitled:Untitled-1.mas")
    link = tmp_path / "link.mas"
    path.write_text("mas 1\n")
    link.symlink_to(path)
    assert path_of(link.as_uri()) == real(path)
    state = State()
    state.hold(link.as_uri(), "mas 1\n")
    assert state.uri(real(path)) == link.as_uri(), "the editor's own name for it"


def test_the_old_version_in_a_comparison_is_not_the_file(tmp_path: Path) -> None:
    """Editors show it under the same path and another scheme."""
    path = tmp_path / "relay.mas"
    state = opened(tmp_path, relay=MAIN, roles=ROLES)
    for scheme in ("git", "gitlens", "vscode-notebook-cell", "conflictResolution"):
        foreign = path.as_uri().replace("file:", f"{scheme}:")
        assert not is_ours(foreign)
        state.hold(foreign, "mas 1\n")
        state.drop(foreign)
    assert state.texts[real(path)] == MAIN
    assert state.uri(real(path)) == path.as_uri()


@pytest.mark.parametrize(
    "uri",
    [
        "file:///a%00.mas",
        "file://[bad/a.mas",
        "file://elsewhere/a.mas",
        "untitled:a%00",
        "file:///\ud800.mas",
        "a.mas",
        "",
    ],
)
def test_a_document_with_the_name_of_no_file_does_no_harm(tmp_path: Path, uri: str) -> None:
    state = State((str(tmp_path),))
    state.hold(uri, "mas 1\nagent\n")
    state.hold((tmp_path / "a.mas").as_uri(), "mas 1\nagent\n")
    state.use(uri)
    assert list(state.check()) == [real(tmp_path / "a.mas")]
    state.drop(uri)


@pytest.mark.parametrize("name", ["n" * 300, "é", "a;b?c#d%41"])
def test_documents_with_odd_names_are_told_of(tmp_path: Path, name: str) -> None:
    uri, state = (tmp_path / f"{name}.mas").as_uri(), State((str(tmp_path),))
    state.hold(uri, "mas 1\nagent\n")
    assert [found[0].code for found in state.check().values()] == ["E0105"]
    assert path_of(uri) == real(tmp_path / f"{name}.mas")


def test_a_name_that_is_not_utf8_is_the_files_own(tmp_path: Path) -> None:
    assert os.fsencode(path_of(f"{tmp_path.as_uri()}/%FF.mas")).endswith(b"/\xff.mas")


def test_a_text_that_was_never_saved_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = State()
    state.hold("untitled:relay.mas", "mas 1\n")
    state.hold((tmp_path / "relay.mas").as_uri(), MAIN)
    assert sorted(state.texts.values()) == sorted(["mas 1\n", MAIN])


def test_two_documents_of_one_file(tmp_path: Path) -> None:
    """The one that is used counts, and both are told what is wrong."""
    path, link = tmp_path / "a.mas", tmp_path / "b.mas"
    path.write_text("mas 1\n")
    link.symlink_to(path)
    state = State((str(tmp_path),))
    state.hold(path.as_uri(), "mas 1\nagent\n")
    state.hold(link.as_uri(), "mas 1\n")
    assert state.texts == {real(path): "mas 1\n"}
    assert set(state.uris(real(path))) == {path.as_uri(), link.as_uri()}
    state.use(path.as_uri())
    assert state.texts == {real(path): "mas 1\nagent\n"}
    assert "E0105" in [d.code for d in state.check()[real(path)]]
    state.drop(path.as_uri())
    assert state.texts == {real(path): "mas 1\n"}, "the other is still open"
    state.drop(link.as_uri())
    assert state.texts == {}


def test_old_texts_are_not_kept(tmp_path: Path) -> None:
    state = opened(tmp_path, relay=MAIN, roles=ROLES)
    kept = []
    for edit in range(30):
        state.hold((tmp_path / "relay.mas").as_uri(), f"{MAIN}# {edit}\n")
        kept.append(weakref.ref(state.index().files[real(tmp_path / "relay.mas")].source))
        state.check()
    gc.collect()
    assert sum(ref() is not None for ref in kept) == 1
    roles = state.index().files[real(tmp_path / "roles.mas")]
    state.hold((tmp_path / "relay.mas").as_uri(), MAIN)
    assert state.index().files[real(tmp_path / "roles.mas")] is roles, "what did not change is not parsed again"
