"""What reads training lines to write others: one line in, one line or more out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from splade_es.errors import TrainingError
from splade_es.jsonl import parse_object, read_lines


def read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream ("path:line", object) of JSON Lines, plain or .gz, with "query" and "positive".

    Raises CorpusError if the file cannot be read, and TrainingError for a line without either.
    """
    for place, line in read_lines(path):
        try:
            row = parse_object(line)
        except ValueError as error:
            raise TrainingError(f"{place}: {error}") from error
        for key in ("query", "positive"):
            if not is_text(row.get(key)):
                raise TrainingError(
                    f'{place}: "{key}" must be a text that is not empty', "Mend or remove the line."
                )
        yield place, row


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


@contextmanager
def whole_file(path: str, *inputs: str | None) -> Iterator[TextIO]:
    """A file to write, beside its place; it takes it when the block ends, and not by an error.

    inputs: files that are read meanwhile. Raises TrainingError if `path` is one of them, or if it
    cannot be written.
    """
    target = os.path.realpath(path)  # a link stays a link
    for name in inputs:
        if name and os.path.exists(name) and os.path.realpath(name) == target:
            raise TrainingError(f"{path}: this is the input", "Name another file for the output.")
    special = os.path.exists(target) and not os.path.isfile(target)  # /dev/stdout must stay, too
    part = target if special else f"{target}.{os.getpid()}.tmp"
    try:
        with open(part, "w", encoding="utf-8") as file:
            yield file
        if not special:
            os.replace(part, target)
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written ({error.strerror or error})",
            "Check the directory, its permissions and its free space.",
        ) from error
    finally:
        if not special and os.path.exists(part):
            os.remove(part)
