"""Hard negatives from an index: documents that it finds for a query and that are not relevant.

There is one line for each query and positive:

    {"query": "...", "positive": "...", "positive_id": "7", "positive_ids": ["7", "12"],
     "negatives": ["...", "..."], "negative_ids": ["31", "4"]}

`positive_ids` are all known positives of the query, the one of this line first.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypedDict

from splade_es.arguments import check_type
from splade_es.data.files import atomic_file, check_not_input
from splade_es.data.trec_beir import beir_files
from splade_es.engines.base import EngineIndex
from splade_es.errors import SettingsError, TrainingError
from splade_es.limits import MAX_K
from splade_es.progress import MineProgress
from splade_es.records import Document, Query, Run
from splade_es.search.modes import Mode, bm25_run
from splade_es.search.searcher import Searcher
from splade_es.training.judged_queries import JudgedQuery, by_query, read_pairs
from splade_es.training.training_lines import check_input, read_rows

# Hits whose texts are in memory at once.
_BATCH_HITS = 10_000


class MineSettings(TypedDict, total=False):
    """Settings of mining; each may be left out.

    Attributes
    ----------
    mode : {"splade", "bm25", "hybrid"}
        What searches: the model of the index, BM25, or both. By default the model.
    model : str
        Where the model is now, if it has moved.
    split : str
        Judgements of a BEIR folder to use; "train" by default.
    depth : int
        Hits of a query to take negatives from; 100 by default.
    skip_top : int
        Leave out this many of the best hits that are not known positives, because these are often
        relevant without being judged so; 2 by default.
    negatives : int
        Draw this many for each query; 8 by default. 0 takes all, by rank.
    seed : int
        Seed of the draw.
    """

    mode: Mode
    model: str | None
    split: str
    depth: int
    skip_top: int
    negatives: int
    seed: int


def mine_steps(
    index: EngineIndex,
    data: str,
    output: str,
    settings: MineSettings,
    *,
    batch_queries: int = 64,
) -> Generator[MineProgress, None, None]:
    """Write training lines with negatives from an index to a file; an iterator of counts.

    Of the best `depth` hits of a query those that are known positives, by id or by text, are left
    out; then the best `skip_top` of the others; and `negatives` of the rest are drawn. The draw
    depends on the seed, the query and its hits alone.

    Parameters
    ----------
    index : EngineIndex
        The index.
    data : str
        A BEIR folder, where a grade above 0 makes a positive; or JSON Lines with "query" and
        "positive", and with "positive_id" or "positive_ids" where these are known.
    output : str
        The file to write.
    settings : MineSettings
        All other settings.
    batch_queries : int
        Queries that are searched at once.

    Raises
    ------
    TrainingError, SettingsError, QueryError, IndexMissing, IndexMismatch, ModelError
        At the call: a setting, the output or the index is invalid.
    TrainingError, CorpusError, EngineError
        While it runs: the data is invalid, or the engine fails.
    """
    mode, depth = settings.get("mode", "splade"), settings.get("depth", 100)
    skip_top = settings.get("skip_top", 2)
    check_type("mode", mode, Mode)
    if mode == "bm25" and settings.get("model"):
        raise SettingsError("`mode` bm25 searches without a `model`", "Leave out `model`.")
    if not 1 <= depth <= MAX_K:
        raise SettingsError(f"`depth` is {depth}; it must be 1 to {MAX_K:,}")
    for name, value in (("skip_top", skip_top), ("negatives", settings.get("negatives", 8))):
        if value < 0:
            raise SettingsError(f"`{name}` is {value}; it must be 0 or more")
    if skip_top >= depth:
        raise SettingsError(
            f"`skip_top` {skip_top} leaves nothing of `depth` {depth}",
            "Set `skip_top` below `depth`.",
        )
    check_input(data)
    if os.path.isfile(data):
        next(read_rows(data), None)  # a file of another kind is named before a model is loaded
    sources = beir_files(data, settings.get("split", "train")) if os.path.isdir(data) else [data]
    check_not_input("output", output, *sources, settings.get("model"))
    searcher = None if mode == "bm25" else Searcher(index, settings.get("model"))

    def rank(queries: Sequence[Query]) -> Run:
        if searcher is None:
            return bm25_run(index, queries, depth)
        return searcher.run(queries, depth, mode=mode)

    size = max(1, min(batch_queries, _BATCH_HITS // depth))
    return _mine(index, data, output, settings, rank, size)


def _mine(
    index: EngineIndex,
    data: str,
    output: str,
    settings: MineSettings,
    rank: Callable[[Sequence[Query]], Run],
    size: int,
) -> Generator[MineProgress, None, None]:
    """size: queries that are searched at once."""
    wanted, seed = settings.get("negatives", 8), settings.get("seed", 0)
    split = settings.get("split", "train")
    with atomic_file(output, TrainingError) as file, closing(read_pairs(data, split)) as pairs:
        (total,) = pairs.execute("SELECT COUNT(DISTINCT query) FROM pairs").fetchone()
        queries = by_query(pairs)
        progress = MineProgress(total=total)
        while batch := list(itertools.islice(queries, size)):
            run = rank([Query(str(n), judged.query) for n, judged in enumerate(batch)])
            found = [list(run[str(n)]) for n in range(len(batch))]
            # each document once, however many queries of the batch find it
            ids = sorted({id for ranked in found for id in ranked})
            documents = {document.id: document for document in index.documents(ids)}
            lines = negatives = bare = 0
            for judged, ranked in zip(batch, found, strict=True):
                hits = [documents[id] for id in ranked if id in documents]
                rest = _without_positives(judged, hits)[settings.get("skip_top", 2) :]
                if wanted:
                    generator = random.Random(f"{seed} {judged.query}")
                    rest = generator.sample(rest, min(wanted, len(rest)))
                for line in _lines(judged, rest):
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    lines += 1
                    negatives += len(rest)
                    bare += not rest
            progress = replace(
                progress,
                queries=progress.queries + len(batch),
                lines=progress.lines + lines,
                negatives=progress.negatives + negatives,
                bare=progress.bare + bare,
            )
            yield progress


def _without_positives(judged: JudgedQuery, hits: list[Document]) -> list[Document]:
    """The hits that are not known positives, by rank.

    A hit with the text of a positive is a positive: its id is added to the known ones.
    """
    others = []
    for hit in hits:
        same = next((text for text in (hit.body, hit.text) if text in judged.positives), None)
        if same is not None:
            judged.known[hit.id] = None
            judged.positives[same] = judged.positives[same] or hit.id
        elif hit.id not in judged.known and hit.body.strip():
            others.append(hit)
    return others


def _lines(judged: JudgedQuery, negatives: list[Document]) -> Iterator[dict[str, Any]]:
    for positive, id in judged.positives.items():
        line: dict[str, Any] = {"query": judged.query, "positive": positive}
        if id is not None:
            line["positive_id"] = id
            line["positive_ids"] = [id, *(other for other in judged.known if other != id)]
        if negatives:
            line["negatives"] = [document.body for document in negatives]
            line["negative_ids"] = [document.id for document in negatives]
        yield line
