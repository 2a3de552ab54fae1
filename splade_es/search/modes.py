"""Ways to rank: by the model's terms, by BM25, or by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from splade_es.engines.base import EngineIndex
from splade_es.records import Filter, Hit, Query, Run, ScoredId
from splade_es.search.fusion import reciprocal_rank_fusion

#: splade: the terms that the model gives the query; bm25: the words of the query; hybrid: both
#: lists, fused by reciprocal ranks.
Mode: TypeAlias = Literal["splade", "bm25", "hybrid"]

#: Hits of each list that a hybrid search fuses.
FUSED = 100


def bm25_run(
    index: EngineIndex, queries: Sequence[Query], k: int, filter: Filter | None = None
) -> Run:
    """The k best documents of each query by BM25; no model is needed."""
    found = index.search_bm25([query.text for query in queries], k, filter=filter)
    return {
        query.id: {hit.id: hit.score for hit in hits}
        for query, hits in zip(queries, found, strict=True)
    }


def bm25_hits(index: EngineIndex, text: str, k: int, filter: Filter | None = None) -> list[Hit]:
    """The k best documents by BM25; no model is needed."""
    (ranked,) = index.search_bm25([text], k, filter=filter)
    return _ranked_hits(index, ranked, {})


def fuse_runs(runs: Sequence[Run], k: int) -> Run:
    """One run of several over the same queries, by reciprocal ranks."""
    return {
        query: {
            hit.id: hit.score
            for hit in reciprocal_rank_fusion([list(run[query]) for run in runs])[:k]
        }
        for query in runs[0]
    }


def hybrid_hits(
    index: EngineIndex, text: str, hits: Sequence[Hit], k: int, filter: Filter | None
) -> list[Hit]:
    """The hits of a search by terms, fused with those of BM25 for the text."""
    (words,) = index.search_bm25([text], FUSED, filter=filter)
    rankings = [[hit.id for hit in hits], [hit.id for hit in words]]
    return _ranked_hits(index, reciprocal_rank_fusion(rankings)[:k], {hit.id: hit for hit in hits})


def _ranked_hits(
    index: EngineIndex, ranked: Sequence[ScoredId], known: Mapping[str, Hit]
) -> list[Hit]:
    """Ranked ids as hits; those that are not known are read from the index."""
    missing = [hit.id for hit in ranked if hit.id not in known]
    texts = {document.id: document for document in index.documents(missing)} if missing else {}
    hits = []
    for id, score in ranked:
        if id in known:
            hits.append(known[id]._replace(score=score))
        elif id in texts:  # else deleted meanwhile
            hits.append(Hit(id, score, texts[id].to_source()))
    return hits
