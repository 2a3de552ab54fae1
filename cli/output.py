"""What commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from splade_es.records import Rejected


_SETTING = re.compile(r"`(\w+)`")


def print_json(record: object) -> None:
    """A record as one line of JSON, in whatever the terminal can show."""
    line = json.dumps(to_json(record), ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        line = json.dumps(to_json(record))
    click.echo(line)


def to_json(value: object) -> Any:
    """A value with every record in it as a dict of its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def name_options(text: str, command: click.Command) -> str:
    """A message of the library, with each setting in backticks named as a command's option is.

    A setting that the command does not show stands there without backticks.
    """
    shown: dict[str, str] = {}
    for param in command.params:
        if isinstance(param, click.Argument):
            shown[str(param.name)] = param.human_readable_name
        elif isinstance(param, click.Option) and not param.hidden:
            shown[str(param.name)] = param.opts[0]
            shown.setdefault(param.opts[0].strip("-").replace("-", "_"), param.opts[0])
    return _SETTING.sub(lambda found: shown.get(found[1], found[1]), text)


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


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, where that is a terminal; yields a function that moves it.

    The function takes what is done so far, and what there is in all, if that is known.
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=f" {unit}", disable=not sys.stderr.isatty()) as shown:

        def move(done: int, total: int | None = None) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield move


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


def warn_of_saturation(saturated: int) -> None:
    """One line on stderr if weights were clipped."""
    if saturated:
        click.echo(
            f"{saturated:,} weights were too large and were clipped: "
            "encode again with a smaller --scale.",
            err=True,
        )


def warn_of_truncation(truncated: int, documents: int, max_length: int) -> None:
    """One line on stderr if documents were cut."""
    if truncated:
        click.echo(
            f"{truncated:,} of {documents:,} documents are longer than {max_length:,} tokens and "
            "were cut: split them, or encode with a larger --doc-length.",
            err=True,
        )


def fail_on_rejects(rejected: int, read: int, first: Rejected | None, rejects: str) -> None:
    """Raise ClickException if lines were rejected, naming the first."""
    if first:
        said = (
            f"{rejected:,} of {read:,} lines were rejected, the first at "
            f"{first.place}: {first.reason}. All are in {rejects} with their reasons: "
            "correct these lines and give them again."
        )
        raise click.ClickException(printable(said))
