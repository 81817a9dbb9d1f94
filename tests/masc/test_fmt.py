"""`masc fmt`: in place, told only, and into the other form."""

from __future__ import annotations

from pathlib import Path

import pytest

from courier import Command
from masc.dsl.explain import codes

TIDY = """\
# A pair.
mas 1  # the version

model small = "smollm2-135m"

agent planner on small {
  user   "{question}"  # asked
  think  4
}

# Says it.
agent solver on small {
  user   \"\"\"
         {question}
         Say the number.
         \"\"\"
  answer
}

graph pair(question) -> answer {
  planner -> solver : kv
}

train {
  data "train.jsonl"
  answer <- solution
  steps 20
}
"""
UNTIDY = TIDY.replace("think  4", "think 4").replace("  steps", "    steps")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.mas").write_text(UNTIDY)
    return tmp_path / "pair.mas"


def test_check_names_what_would_change_and_writes_nothing(masc: Command, file: Path) -> None:
    (file.parent / "tidy.mas").write_text(TIDY)
    done = masc("fmt", "--check", "pair.mas", "tidy.mas")
    assert (done.code, done.out) == (1, "pair.mas\n")
    assert file.read_text() == UNTIDY
    assert masc("fmt", "pair.mas", "tidy.mas").code == 0
    assert file.read_text() == TIDY
    done = masc("fmt", "--check", "pair.mas", "tidy.mas")
    assert (done.code, done.out) == (0, "")


def test_diff(masc: Command, file: Path) -> None:
    done = masc("fmt", "--diff")
    assert done.code == 0
    assert "-  think 4\n+  think  4\n" in done.out
    assert done.out.startswith("--- pair.mas\n+++ pair.mas (formatted)\n@@")
    assert masc("fmt", "--diff", "--check").code == 1
    assert file.read_text() == UNTIDY
    file.write_text(TIDY.removesuffix("\n"))
    assert "\\ No newline at end of file" in masc("fmt", "--diff").out
    file.write_text(TIDY)
    assert masc("fmt", "--diff").out == ""


def test_errors_in_one_file_do_not_hide_another(masc: Command, file: Path) -> None:
    (file.parent / "bad.mas").write_text("mas 1\nmodel =")
    done = masc("fmt", "bad.mas", "pair.mas")
    assert done.code == 1
    assert "E0103" in done.err
    assert file.read_text() == TIDY
    assert (file.parent / "bad.mas").read_text() == "mas 1\nmodel ="


def test_to_yaml_and_back(masc: Command, file: Path) -> None:
    done = masc("fmt", "--to", "yaml")
    assert done.code == 0
    assert "mas: 1  # the version" in done.out
    assert file.read_text() == UNTIDY
    assert masc("fmt", "--to", "yaml", "pair.mas", "-o", "pair.yaml").code == 0
    assert (file.parent / "pair.yaml").read_text() == done.out
    assert masc("fmt", "--check", "pair.yaml").code == 0
    assert masc("fmt", "--to", "mas", "pair.yaml").out == TIDY
    (file.parent / "pair.yaml").write_text(done.out.replace("think: 4", "think:   4"))
    assert masc("fmt", "pair.yaml").code == 0
    assert (file.parent / "pair.yaml").read_text() == done.out


def test_what_yaml_cannot_say_is_refused(masc: Command, file: Path) -> None:
    entry = codes()["E0135"]
    assert entry.wrong is not None
    assert entry.right is not None
    file.write_text(entry.wrong)
    done = masc("fmt", "--to", "yaml", "-o", "pair.yaml")
    assert done.code == 1
    assert "E0135" in done.err
    assert "pair.mas:4:1" in done.err
    assert not (file.parent / "pair.yaml").exists()
    file.write_text(entry.right)
    assert masc("fmt", "--to", "yaml", "-o", "pair.yaml").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--to", "yaml", "--check"),
        ("--to", "yaml", "--diff"),
        ("--to", "yaml", "-o", "x.mas"),
        ("--to", "toml"),
        ("-o", "x.mas"),
        ("--to", "mas", "pair.mas", "pair.mas"),
    ],
)
def test_wrong_usage(masc: Command, file: Path, arguments: tuple[str, ...]) -> None:
    assert masc("fmt", *arguments).code == 2
    assert [path.name for path in file.parent.iterdir()] == ["pair.mas"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("form", ["mas", "yaml"])
def test_line_ends_and_a_byte_order_mark_are_the_writers_choice(
    masc: Command, file: Path, form: str, mark: str
) -> None:
    tidy = TIDY if form == "mas" else masc("fmt", "--to", "yaml").out
    file = file.with_suffix(f".{form}")
    right = (mark + tidy.replace("\n", "\r\n")).encode()
    file.write_bytes(right)
    assert masc("fmt", "--check", file.name).code == 0
    assert masc("fmt", file.name).err.strip() == f"{file.name}: unchanged"
    file.write_bytes(right.replace(b"steps ", b"steps  ").replace(b"user: ", b"user:  ").replace(b"\r\n", b"\n", 2))
    assert masc("fmt", "--check", file.name).code == 1  # most lines end in \r\n, two do not
    assert masc("fmt", file.name).code == 0
    assert file.read_bytes() == right
    assert masc("fmt", "--to", "mas", file.name, "-o", "again.mas").code == 0
    assert (file.parent / "again.mas").read_bytes() == (mark + TIDY.replace("\n", "\r\n")).encode()
    assert masc("new", "agent", "helper", file.name).code == 0
    assert b"helper" in file.read_bytes()
    assert file.read_bytes().count(b"\r\n") == file.read_bytes().count(b"\n")
    assert file.read_bytes().startswith(mark.encode())


def test_a_link_is_followed_and_permissions_stay(masc: Command, file: Path) -> None:
    (file.parent / "link.mas").symlink_to("pair.mas")
    file.chmod(0o600)
    assert masc("fmt", "link.mas").code == 0
    assert (file.parent / "link.mas").is_symlink()
    assert file.read_text() == TIDY
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_heading_stays_apart_and_so_does_what_was_apart(masc: Command, file: Path) -> None:
    text = TIDY.replace("# A pair.\nmas 1", "mas 1").replace("model small", "# A pair.\n\nmodel small")
    text = text.replace("  steps 20", "  # How long.\n\n  steps 20\n\n  # Nothing else.").replace(
        "  answer\n", "\n  answer\n"
    )
    file.write_text(text)
    assert masc("fmt", "--check").out == ""
    file.write_text(text.replace("\n\n", "\n\n \t\n\n"))
    assert masc("fmt").code == 0
    assert file.read_text() == text
