"""The lines of a journal: what is in one, and how it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from splade_es.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Done:
    """One request that is done.

    numbers: of its documents in the corpus, as runs [first, last]; unchanged: of the documents left
    out before it, because one of them may precede a changed one of the same id; digest and
    unchanged_digest: of either; refused: number -> reason, of the documents that the engine
    rejected.
    """

    numbers: list[list[int]]
    unchanged: list[list[int]]
    digest: str
    unchanged_digest: str
    indexed: int
    replaced: int
    empty: int
    saturated: int
    truncated: int
    refused: dict[int, str]


def digest(documents: Iterable[tuple[str, str]]) -> str:
    """SHA-256 of the ids and content hashes of documents."""
    total = hashlib.sha256()
    for id, content_hash in documents:
        total.update(f"{id} {content_hash}\n".encode())
    return total.hexdigest()


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as runs [first, last]."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def total(runs: Iterable[list[int]]) -> int:
    """How many numbers there are in runs."""
    return sum(last - first + 1 for first, last in runs)


def read_entries(path: Path, lines: list[bytes]) -> tuple[dict[str, Any], list[Done]]:
    """The header, and what is done; {} and nothing without lines. Raises CorpusError."""
    if not lines:
        return {}, []
    number = 1
    try:
        header = json.loads(lines[0])
        json.dumps(header, ensure_ascii=False).encode()  # without lone surrogates
        _check(isinstance(header["index"], str), isinstance(header.get("setting", ""), str))
        _check(isinstance(header["documents"], int))
        done = []
        for line in lines[1:]:
            number += 1
            record = json.loads(line)
            entry = Done(**{f.name: record[f.name] for f in fields(Done)})
            for found in (entry.numbers, entry.unchanged):
                _check(*(1 <= first <= last for first, last in found))
            _check(isinstance(entry.digest, str), isinstance(entry.unchanged_digest, str))
            counts = (
                entry.indexed, entry.replaced, entry.empty, entry.saturated, entry.truncated,
            )  # fmt: skip
            _check(*(isinstance(count, int) and count >= 0 for count in counts))
            # the keys of JSON are strings
            refused = {int(n): str(text) for n, text in entry.refused.items()}
            done.append(replace(entry, refused=refused))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorpusError(
            f"{path}:{number}: the journal is damaged",
            "Delete it, and load the corpus again; what is unchanged is left out.",
        ) from error
    return header, done


def _check(*conditions: bool) -> None:
    if not all(conditions):
        raise ValueError("not what was written")
