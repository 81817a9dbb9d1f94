"""What the server remembers between requests."""

from __future__ import annotations

from pathlib import Path

from editor import MAIN, ROLES
from masc.lsp.state import State, path_of
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
    assert path_of("untitled:Untitled-1") == real("Untitled-1.mas")
    link = tmp_path / "link.mas"
    path.write_text("mas 1\n")
    link.symlink_to(path)
    assert path_of(link.as_uri()) == real(path)
    state = State()
    state.hold(link.as_uri(), "mas 1\n")
    assert state.uri(real(path)) == link.as_uri(), "the editor's own name for it"
