"""Training lines in JSON Lines, as `mine` and `score` read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from splade_es.data.jsonl import parse_object, read_lines
from splade_es.errors import CorpusError, TrainingError


def read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream ("path:line", object) of JSON Lines or of a JSON array.

    Raises CorpusError if the file cannot be read, and TrainingError for a line that lacks "query"
    or "positive".
    """
    for place, line in read_lines(path, arrays=True):
        try:
            row = parse_object(line)
        except ValueError as error:
            raise TrainingError(f"{place}: {error}") from error
        for key in ("query", "positive"):
            if not is_text(row.get(key)):
                raise TrainingError(
                    f'{place}: "{key}" must be a text that is not empty',
                    "Correct or remove the line.",
                )
        yield place, row


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value.strip())


def check_input(path: str) -> None:
    """Raise CorpusError if a file or folder does not exist; "-" is standard input."""
    if path != "-" and not os.path.exists(path):
        raise CorpusError(f"{path}: no such file", "Check the path.")
