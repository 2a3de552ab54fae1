"""What commands print: results to stdout, all else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def print_json(record: Any) -> None:
    click.echo(json.dumps(record, ensure_ascii=False))


def printable(text: str) -> str:
    """Without what would move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def snippet(text: str, length: int = 160) -> str:
    """The beginning of a text in one line of at most `length` characters."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1].rsplit(" ", 1)[0] + "…"


def bar(share: float) -> str:
    """A bar of a table. share: of the longest."""
    return "█" * max(1, round(20 * share))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[str] = ()
) -> None:
    """A table; the first column and those named in `text` are text, the others are numbers."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        show_header=any(columns),
    )
    for number, column in enumerate(columns):
        left = not number or column in text
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    # a pipe has no width: do not fold lines there
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
