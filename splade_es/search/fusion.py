"""Several ranked lists of one query into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from splade_es.records import ScoredId

#: The constant of the paper. The larger it is, the less the first places differ.
RANK_CONSTANT = 60


def reciprocal_rank_fusion(
    rankings: Iterable[Sequence[str]], rank_constant: int = RANK_CONSTANT
) -> list[ScoredId]:
    """Each document's sum of 1 / (rank_constant + rank) over the lists it is in, best first.

    rankings: document ids, the best first. Reciprocal rank fusion, doi:10.1145/1571941.1572114.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, 1):
            scores[id] = scores.get(id, 0.0) + 1 / (rank_constant + rank)
    fused = [ScoredId(id, score) for id, score in scores.items()]
    return sorted(fused, key=lambda hit: (-hit.score, hit.id))
