"""Folders and files of naver/splade.

    raw.tsv of a collection   id TAB text
    raw.tsv of triplets       query TAB positive TAB negative [TAB score TAB score]
    qrel.json                 {query id: {document id: grade}}
    *.pkl.gz                  {query id: {document id: score}}, scores of a teacher

A folder has the first and the last two, or triplets. If there are scores, triplets beside them are
ignored; give their own folder or file to read them.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence

from splade_es.data.jsonl import read_lines
from splade_es.errors import CorpusError, TrainingError
from splade_es.training.formats.pickled import read_scores
from splade_es.training.formats.rows import Row, Source, from_candidates

#: Places of the files in the folder of a data set, from the configurations of naver/splade.
_DOCUMENTS = ("full_collection/raw.tsv", "collection/raw.tsv", "val_collection/raw.tsv")
_QUERIES = ("train_queries/queries/raw.tsv", "queries/raw.tsv", "val_queries/raw.tsv")
_QRELS = (
    "train_queries/qrels.json",
    "qrel/qrel.json",
    "qrels/qrels.json",
    "qrels.json",
    "qrel.json",
)
_SCORES = ("hard_negatives_scores/*.pkl.gz", "scores/*.pkl.gz", "*.pkl.gz")
_TRIPLETS = ("triplets/raw.tsv", "splade_triplets/raw.tsv", "distil_mse/raw.tsv", "raw.tsv")


def is_folder(path: str) -> bool:
    """Whether a folder has this format."""
    return bool(_find(path, _SCORES) or _find(path, _TRIPLETS))


def open_folder(path: str) -> Source:
    """Open a folder with scores and their collections, or with triplets.

    The judgements are kept in memory. Raises CorpusError, with all names that were tried, if a file
    is missing.
    """
    scores = _find(path, _SCORES)
    triplets = _find(path, _TRIPLETS)
    if not scores and triplets:
        return Source("naver", read_triplets(read_lines(_only(triplets))))
    found = [scores, *(_find(path, names) for names in (_DOCUMENTS, _QUERIES, _QRELS))]
    for files, names, what in zip(
        found,
        (_SCORES + _TRIPLETS, _DOCUMENTS, _QUERIES, _QRELS),
        ("scores or triplets", "documents", "queries", "judgements"),
        strict=True,
    ):
        if not files:
            raise CorpusError(
                f"{path}: there are no {what}",
                f"Looked for {', '.join(names)}; put them in one of these places.",
            )
    file, documents, queries, qrels = map(_only, found)
    return Source("naver", _scored(file, qrels), _collection(queries), _collection(documents))


def read_triplets(lines: Iterable[tuple[str, bytes]]) -> Iterator[Row]:
    """Rows of lines of triplets; raises CorpusError for one without three or five columns."""
    for place, line in lines:
        columns = _columns(place, line)
        if len(columns) not in (3, 5):
            raise CorpusError(
                f"{place}: {len(columns)} columns",
                "Triplets have three (query, positive, negative), or five with two scores.",
            )
        query, positive, negative, *scores = columns
        try:
            numbers = [float(score) for score in scores]
        except ValueError as exc:
            raise CorpusError(f"{place}: {exc}", "Columns four and five are scores.") from exc
        yield Row(
            place, query, [positive], [negative], numbers[:1] or None, numbers[1:] or None
        )  # fmt: skip


def _find(folder: str, names: Iterable[str]) -> list[str]:
    """The files of the first name that exists; with a * there may be several."""
    here = glob.escape(folder)
    return next((files for n in names if (files := sorted(glob.glob(f"{here}/{n}")))), [])


def _only(files: Sequence[str]) -> str:
    if len(files) > 1:
        raise CorpusError(
            f"{os.path.dirname(files[0])}: {len(files)} files of scores "
            f"({', '.join(map(os.path.basename, files))})",
            "Leave only the one to train with.",
        )
    return files[0]


def _columns(place: str, line: bytes) -> list[str]:
    try:
        return [column.strip() for column in line.decode().rstrip("\r\n").split("\t")]
    except UnicodeDecodeError as exc:
        raise CorpusError(
            f"{place}: not UTF-8 at byte {exc.start + 1}", "Convert the file with iconv -t UTF-8."
        ) from exc


def _collection(path: str) -> Iterator[tuple[str, str]]:
    for place, line in read_lines(path):
        id, *texts = _columns(place, line)
        if not (id and texts):
            raise CorpusError(f"{place}: there is no tab", "Write an id, a tab and a text.")
        yield id, " ".join(texts)


def _scored(path: str, qrels_path: str) -> Iterator[Row]:
    qrels = _read_qrels(qrels_path)
    for query, scores in read_scores(path):
        if query in qrels:  # naver/splade leaves out queries without judgements, too
            yield from_candidates(f"{path}, query {query}", query, scores, qrels[query])


def _read_qrels(path: str) -> dict[str, list[str]]:
    try:
        with open(path, encoding="utf-8") as file:
            qrels = json.load(file)
        return {
            query: [document for document, grade in grades.items() if int(grade) > 0]
            for query, grades in qrels.items()
        }
    except OSError as exc:
        raise CorpusError(f"{path}: cannot be read ({exc.strerror})", "Check the file.") from exc
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as exc:
        raise TrainingError(
            f"{path}: there are no judgements in it ({exc})",
            "Write {query id: {document id: grade}} as JSON.",
        ) from exc
