"""The streams that a command writes to, whatever is behind them: all that it prints goes here."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

import click


@contextmanager
def standard_streams() -> Iterator[None]:
    """While the block runs, no stream fails in any other way than by a line on stderr.

    One that is closed is /dev/null; a character that a stream cannot show becomes a question mark;
    results that cannot be written, to a full disk say, end the command; and messages that cannot
    be written are lost. At the end all results are written, or the exit code is 1.
    """
    for descriptor in range(3):  # or the next file would be stdout, and get what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = cast(TextIO, _Results(sys.stdout))
    sys.stderr = cast(TextIO, _Stream(sys.stderr))
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


class _Stream:
    """A stream whose failures are ignored. All but writing is asked of the stream itself."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: Any = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if hasattr(self._stream, "reconfigure"):
            # ASCII is what a system without any setting says, and its terminals show UTF-8
            unset = codecs.lookup(self._stream.encoding).name == "ascii"
            self._stream.reconfigure(encoding="utf-8" if unset else None, errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self.fail(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        """From now on write into nothing: what waits would fail again when Python ends."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)


class _Results(_Stream):
    """Stdout, whose failure ends the command."""

    def fail(self, error: OSError) -> None:
        super().fail(error)
        if not isinstance(error, BrokenPipeError):  # or its reader has read enough
            click.echo(f"Error: The results cannot be written ({error.strerror}).", err=True)
        sys.exit(1)
