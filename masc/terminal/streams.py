"""The standard streams, whatever they are: closed, full, read by nobody, of an encoding that lacks a character.

What is for reading (tables, diagnostics, drawings) goes out in the encoding of the terminal. What is a file's content
(`masc fmt --to`, JSON, a printed plan) goes out as UTF-8, for that is what those formats are.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class OutputError(Exception):
    """Standard output could not be written. gone: whoever read it, `head` for one, has seen enough."""

    def __init__(self, reason: str, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


class _Output(io.TextIOWrapper):
    """Standard output. Its errors are told from those of other files: click takes a broken pipe for its own."""

    def write(self, text: str) -> int:
        with _told_apart():
            return super().write(text)

    def flush(self) -> None:
        with _told_apart():
            super().flush()


class _Messages(io.TextIOWrapper):
    """Standard error. A message that cannot be written is dropped: an hour of training is not lost for a line that
    nobody reads."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
        raise OutputError(why, gone=isinstance(error, BrokenPipeError)) from None


def prepare() -> None:
    """Make the standard streams fit to be written to. Called once, before the command reads its arguments."""
    _open_closed()
    if type(sys.stdout) is io.TextIOWrapper:  # not where a test or another program has put its own
        sys.stdout = _wrapped(_Output, sys.stdout)
    if type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = _wrapped(_Messages, sys.stderr)


def _open_closed() -> None:
    """A closed stream (`>&-`) becomes the null device. Else the next file that is opened would get its number, and what
    a library prints would go into it. Standard output can only be read then: what is printed fails as on a stream that
    is closed, for whoever asked for a result must be told that it went nowhere."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number: this one.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _wrapped(kind: type[io.TextIOWrapper], stream: TextIO) -> TextIO:
    """The same stream, as another kind. A character that it has no code for is written as `\\u2502`."""
    line_buffering, write_through = bool(stream.line_buffering), getattr(stream, "write_through", False)
    encoding = stream.encoding
    stream.flush()
    return kind(
        stream.detach(),  # type: ignore[attr-defined]
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


def give_up_output() -> None:
    """After standard output failed: what is still in its buffer goes to the null device, or Python would complain once
    more at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def print_content(text: str) -> None:
    """Print what is a file's content: as UTF-8, but to a terminal in the terminal's own encoding."""
    stream = sys.stdout
    if stream.isatty() or _is_utf8(stream) or not isinstance(stream, io.TextIOWrapper):
        print(text, end="")
        return
    stream.flush()
    stream.reconfigure(encoding="utf-8")
    print(text, end="")


def _is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-") in {"utf-8", "utf8"}


def can_print(text: str) -> bool:
    """Whether standard output has a code for every character of a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def wants_color(stream: TextIO) -> bool:
    """Whether text on a stream may be coloured: on a terminal that knows colours, unless NO_COLOR is set
    (https://no-color.org); FORCE_COLOR colours whatever it is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
