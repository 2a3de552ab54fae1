"""Formats of training data, and which of them a path has.

A path is a folder with a known layout, a file of triplets, or a sequence of records (JSON Lines,
Parquet, a saved dataset). Of records, the keys of the first one show the format of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from splade_es.data.jsonl import find_file, parse_object, read_lines
from splade_es.errors import CorpusError, TrainingError
from splade_es.training.formats import (
    light_splade,
    naver,
    sentence_transformers,
    splade_es,
    tables,
    yast,
)
from splade_es.training.formats.rows import Records, Row, Source

_FOLDERS: dict[str, Callable[[str], Source]] = {
    "beir": splade_es.open_beir,
    "light-splade": light_splade.open_folder,
    "naver": naver.open_folder,
}
_RECORDS: dict[
    str, tuple[Callable[[dict[str, Any]], bool], Callable[[str, dict[str, Any]], Row]]
] = {
    "splade-es": (splade_es.matches, splade_es.to_row),
    "yast": (yast.matches, yast.to_row),
    "opensearch": (yast.matches_opensearch, yast.to_row_opensearch),
    "sentence-transformers": (sentence_transformers.matches, sentence_transformers.to_row),
}

#: The values of the setting `format`.
FORMATS: tuple[str, ...] = (*_RECORDS, *_FOLDERS)


def check_path(path: str) -> None:
    """Raise CorpusError if training data does not exist. "-" is standard input."""
    if path != "-" and not os.path.exists(path):
        raise CorpusError(f"{path}: no such file or folder", "Check the path.")


def open_source(path: str, format: str | None, corpus: str | None) -> Source:
    """Find the reader of a path, unless `format` names it, and read the first row.

    corpus: a BEIR folder with the texts that rows of the format splade-es name by id. Raises
    CorpusError or TrainingError if no reader fits the path, or if the format does not fit it.
    """
    if format not in (None, *FORMATS):
        raise TrainingError(f'there is no format "{format}"', f"Give one of {', '.join(FORMATS)}.")
    check_path(path)
    source = _open_folder(path, format) if os.path.isdir(path) else _open_file(path, format)
    if corpus is None:
        return source
    if source.format != "splade-es":
        raise TrainingError(
            f"{path}: {source.format} data has all texts itself, and takes none from {corpus}",
            "Leave out `corpus`.",
        )
    return source._replace(
        queries=splade_es.read_queries(corpus), documents=splade_es.read_corpus(corpus)
    )


def _open_folder(path: str, format: str | None) -> Source:
    if format in _FOLDERS:
        return _FOLDERS[format](path)
    if format or tables.is_table(path):
        return _open_records(path, tables.read_tables(path), format, by_order=True)
    if light_splade.find_folder(path):
        return light_splade.open_folder(path)
    if find_file(path, "corpus.jsonl"):
        return splade_es.open_beir(path)
    if naver.is_folder(path):
        return naver.open_folder(path)
    raise TrainingError(
        f"{path}: the format of this folder is unknown: it has no state.json or *.parquet, "
        "query_master.ndjson (light-splade), corpus.jsonl (beir), *.pkl.gz or raw.tsv (naver)",
        f"Check the path, or set `format` to one of {', '.join(FORMATS)}.",
    )


def _open_file(path: str, format: str | None) -> Source:
    if format in ("beir", "light-splade"):
        raise TrainingError(f"{path}: {format} data is a folder", "Give the folder.")
    if tables.is_table(path) and format != "naver":
        return _open_records(path, tables.read_tables(path), format, by_order=True)
    lines = read_lines(path, arrays=format != "naver")
    if (head := next(lines, None)) is None:
        return Source(format or "splade-es", ())
    lines = chain([head], lines)
    is_json = head[1].lstrip()[:1] in (b"{", b"[", b'"')
    if format == "naver" or (format is None and not is_json and b"\t" in head[1]):
        return Source("naver", naver.read_triplets(lines))
    if not (format or is_json):
        raise TrainingError(
            f"{head[0]}: neither JSON, nor columns with tabs, nor Parquet",
            f"Check the path, or set `format` to one of {', '.join(FORMATS)}.",
        )
    return _open_records(path, _parse(lines), format, by_order=False)


def _parse(lines: Iterator[tuple[str, bytes]]) -> Records:
    for place, line in lines:
        try:
            yield place, parse_object(line)
        except ValueError as exc:
            raise TrainingError(f"{place}: {exc}") from exc


def _open_records(path: str, records: Records, format: str | None, by_order: bool) -> Source:
    """by_order: in a table, columns of texts are known by their order, not by their names."""
    if (head := next(records, None)) is None:
        return Source(format or "splade-es", ())
    names = reversed(_RECORDS) if by_order else iter(_RECORDS)
    name = format or next((name for name in names if _RECORDS[name][0](head[1])), None)
    if name is None:
        keys = ", ".join(f'"{key}"' for key in head[1])
        raise TrainingError(
            f"{head[0]}: the format of a row with {keys or 'nothing'} is unknown: it has neither a "
            "query with positives nor columns of texts",
            f"Check the row, or set `format` to one of {', '.join(_RECORDS)}.",
        )
    to_row = _RECORDS[name][1]
    return Source(name, (to_row(place, record) for place, record in chain([head], records)))
