"""Test collections: queries, relevance judgements and runs in the formats of TREC and BEIR.

Formats: https://trec.nist.gov (topics, qrels, runs) and https://github.com/beir-cellar/beir. These
files are small and each line counts in a mean, so the first bad line raises CorpusError.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from splade_es.data.corpus import parse_document
from splade_es.data.files import atomic_file
from splade_es.data.jsonl import find_file, read_lines
from splade_es.errors import CorpusError
from splade_es.records import Qrels, Query, Run

_Lines: TypeAlias = Iterator[tuple[str, bytes]]

_NUM = re.compile(r"<num>\s*(?:number\s*:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:topic\s*:)?(.*?)(?=</?[a-z]+>|\Z)", re.IGNORECASE | re.DOTALL)


def open_beir(directory: str, split: str) -> tuple[list[Query], Qrels]:
    """Read the judged queries of a BEIR directory, in the order of queries.jsonl, and judgements.

    Reads queries.jsonl and qrels/SPLIT.tsv, plain or compressed. Raises CorpusError if one is
    missing, or a judged query is not among the queries.
    """
    if not os.path.isdir(directory):
        raise CorpusError(f"{directory}: no such directory", "Give a directory in BEIR layout.")
    queries_path = find_file(directory, "queries.jsonl")
    if queries_path is None:
        raise CorpusError(f"{directory}: no queries.jsonl", "Give a directory in BEIR layout.")
    folder = os.path.join(directory, "qrels")
    qrels_path = find_file(folder, f"{split}.tsv")
    if qrels_path is None:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        splits = sorted({name.split(".tsv")[0] for name in names if ".tsv" in name})
        raise CorpusError(
            f'{directory}: no judgements for split "{split}"',
            f"There are: {', '.join(splits)}." if splits else "Put them in qrels/SPLIT.tsv.",
        )
    qrels = read_qrels(qrels_path)
    queries = [query for query in read_queries(queries_path) if query.id in qrels]
    unknown = sorted(qrels.keys() - {query.id for query in queries})
    if unknown:
        raise CorpusError(
            f'{qrels_path}: {len(unknown)} judged queries, "{unknown[0]}" first, '
            f"are not in {queries_path}",
            "Take both files from the same collection.",
        )
    return queries, qrels


def beir_files(directory: str, split: str) -> list[str | None]:
    """The files of a BEIR directory that are read: corpus, queries and judgements; None if none."""
    return [
        find_file(directory, "corpus.jsonl"),
        find_file(directory, "queries.jsonl"),
        find_file(os.path.join(directory, "qrels"), f"{split}.tsv"),
    ]


def read_queries(path: str) -> list[Query]:
    """Read the queries of a file, in order. The first character of the file tells its format.

    `{` is JSON Lines with `_id` and `text`, and `[` an array of the same objects; `<` is TREC
    topics, of which <num> and <title> are read; anything else is one `id TAB text` a line. If an id
    is repeated its last text is used, as in an index and in BEIR's own loader. Raises CorpusError
    for a bad line.
    """
    lines = read_lines(path, arrays=True)
    head = next(lines, None)
    if head is None:
        raise CorpusError(f"{path}: no queries", "Write one a line.")
    lines = chain([head], lines)
    start = head[1].lstrip()[:1]
    read = {b"{": _json_queries, b"<": _topics}.get(start, _tab_separated_queries)
    queries: dict[str, Query] = {}
    for place, query in read(lines):
        if not query.text.strip():
            raise CorpusError(f'{place}: query "{query.id}" is empty', "Write its text.")
        queries[query.id] = query
    return list(queries.values())


def _json_queries(lines: _Lines) -> Iterator[tuple[str, Query]]:
    for place, line in lines:
        try:
            record = parse_document(line, place)  # BEIR's queries have the format of documents
        except ValueError as exc:
            raise CorpusError(f"{place}: {exc}") from exc
        yield place, Query(record.id, record.text)


def _tab_separated_queries(lines: _Lines) -> Iterator[tuple[str, Query]]:
    for place, line in _decode(lines):
        id, tab, text = line.partition("\t")
        if not (id and tab):
            raise CorpusError(f"{place}: no tab", "Write a query as: id, tab, text.")
        yield place, Query(id, text.strip())


def _topics(lines: _Lines) -> Iterator[tuple[str, Query]]:
    topics: list[tuple[str, list[str]]] = []  # the place of each <top>, and its lines
    for place, line in _decode(lines):
        if line.lstrip().lower().startswith("<top>"):
            topics.append((place, []))
        if not topics:
            raise CorpusError(f"{place}: no <top>", "TREC topics start with <top>.")
        topics[-1][1].append(line)
    for place, block in topics:
        text = "\n".join(block)
        num, title = _NUM.search(text), _TITLE.search(text)
        if not (num and title):
            raise CorpusError(f"{place}: a topic without <num> or <title>", "Give it both.")
        yield place, Query(num[1], " ".join(title[1].split()))


def read_qrels(path: str) -> Qrels:
    """Read the judgements of a file: three columns with a header (BEIR), or four (TREC).

    Raises CorpusError for a bad line, or two grades for one document of a query.
    """
    qrels: Qrels = {}
    for number, (place, line) in enumerate(_decode(read_lines(path))):
        columns = line.split("\t") if line.count("\t") == 2 else line.split()
        if len(columns) not in (3, 4):
            raise CorpusError(
                f"{place}: {len(columns)} columns",
                "A judgement has three (query, document, grade) or four (query, 0, document, "
                "grade).",
            )
        query, document, grade = columns[0], columns[-2], columns[-1]
        try:
            value = int(grade)
        except ValueError as exc:
            if number == 0 and len(columns) == 3:  # query-id, corpus-id, score
                continue
            raise CorpusError(f'{place}: grade "{grade}"', "Make it a whole number.") from exc
        if qrels.setdefault(query, {}).setdefault(document, value) != value:
            raise CorpusError(
                f'{place}: document "{document}" of query "{query}" has two grades',
                "Keep one of them.",
            )
    if not qrels:
        raise CorpusError(f"{path}: no judgements", "Write one a line.")
    return qrels


def read_run(path: str) -> Run:
    """Read a TREC run: query, Q0, document, rank, score, tag. The ranks are ignored.

    Raises CorpusError for a bad line, or a document that is repeated for a query.
    """
    run: Run = {}
    for place, line in _decode(read_lines(path)):
        columns = line.split()
        if len(columns) != 6:
            raise CorpusError(
                f"{place}: {len(columns)} columns",
                "A run has six: query, Q0, document, rank, score, tag.",
            )
        query, _, document, _, score, _ = columns
        try:
            value = float(score)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise CorpusError(f'{place}: score "{score}"', "Make it a finite number.")
        if document in run.setdefault(query, {}):
            raise CorpusError(
                f'{place}: document "{document}" of query "{query}" is given twice',
                "Keep one of them.",
            )
        run[query][document] = value
    return run


def write_run(path: str, run: Run, tag: str = "splade-es") -> None:
    """Write a TREC run, best first, ties by document id. Scores are read back unchanged.

    The file appears whole or not at all. Raises CorpusError if it cannot be written, or if an id
    has white space, which the format does not allow.
    """
    with atomic_file(path, CorpusError) as file:
        for query, scores in run.items():
            ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
            for rank, (document, score) in enumerate(ranked, start=1):
                line = f"{query} Q0 {document} {rank} {float(score)!r} {tag}"
                if len(line.split()) != 6:
                    raise CorpusError(
                        f'{path}: an id of query "{query}", document "{document}" is empty or '
                        "has white space",
                        "A run file cannot hold it; use ids without white space.",
                    )
                file.write(line + "\n")


def _decode(lines: _Lines) -> Iterator[tuple[str, str]]:
    for place, line in lines:
        try:
            yield place, line.decode().rstrip("\r\n")
        except UnicodeDecodeError as exc:
            raise CorpusError(
                f"{place}: not UTF-8 at byte {exc.start + 1}",
                "Convert the file with iconv -t UTF-8.",
            ) from exc
