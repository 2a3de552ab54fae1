"""One index of the local engine: a directory with these things in it.

    splade-es.json   what the index was made with
    features.jsonl   the dimension of each feature, which Qdrant Edge knows by number only
    features.json    what of it is in use, see `FeatureIds`
    documents.json   how many documents it has at rest, see `RestingCount`
    shard/           the shard of Qdrant Edge: vectors, documents, write-ahead log

Edge writes an operation to its log before it validates it, and one that it cannot apply makes the
shard unreadable: so every vector and document is validated first, in `local_documents`.

Edge maps files that have no blocks on the disk yet, and where the disk has none left the system
ends the process by SIGBUS, without a word: so there must be free space before Edge is asked.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from splade_es.engines.feature_ids import FeatureIds
from splade_es.engines.local_bm25 import Bm25
from splade_es.engines.local_count import RestingCount
from splade_es.engines.local_documents import POINTS, StoredVector, checked, passes, point_of
from splade_es.errors import EngineError
from splade_es.fields import FIELD, FIELDS_FIELD, HASH_FIELD
from splade_es.limits import MAX_ID_BYTES
from splade_es.records import Action, Clause, Document, Filter, Hit, ItemResult, ScoredId

META_FILE = "splade-es.json"
# One optimization of a million documents at the end would take nine gigabytes; in steps, and with
# segments that are never merged past this size (kB), it takes a few hundred megabytes.
_OPTIMIZE_EVERY = 100_000
_CONFIG = edge.EdgeConfig(
    sparse_vectors={FIELD: edge.EdgeSparseVectorParams()},
    optimizers=edge.EdgeOptimizersConfig(default_segment_number=64, max_segment_size=200_000),
)
# Free bytes of the disk that opening an index asks for, and that writing leaves. Measured: to open
# one takes less than 100 kB, and documents take 1.3 times the bytes of their request.
_TO_OPEN, _TO_WRITE = 8_000_000, 32_000_000
_IDS_ONLY = edge.PayloadSelector.Include(["id"])
_PAGE = 1000


class QdrantIndex:
    """An open index. Every method raises what Edge and the file system raise; see `LocalStore`."""

    def __init__(self, directory: Path) -> None:
        _check_space(directory, _TO_OPEN)
        self._directory = directory
        self._feature_ids = FeatureIds(directory / "features.jsonl")
        self._shard = edge.EdgeShard.load(str(directory / "shard"))
        self._resting = RestingCount(directory / "documents.json")
        self._resting.check(self.count())
        self._sound = True  # whether every write has ended well
        # Point -> document id, to fetch each only once; the one is made of the other.
        self._ids: dict[int, str] = {}
        self._unoptimized = 0
        self._bm25: Bm25 | None = None

    @staticmethod
    def create(directory: Path) -> None:
        """An empty index in an empty directory, but for META_FILE."""
        _check_space(directory, _TO_WRITE)
        FeatureIds.create(directory / "features.jsonl")
        (directory / "shard").mkdir()
        shard = edge.EdgeShard.create(str(directory / "shard"), _CONFIG)
        shard.flush()
        shard.close()

    def close(self) -> None:
        """Release the shard, so that another process can open it."""
        if self._sound:
            self._resting.keep(self.count())
        self._shard.close()

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Apply actions in order; one result for each."""
        size = sum(1000 + 3 * (len(a.fields or b"") + len(a.features)) for a in actions)
        _check_space(self._directory, _TO_WRITE + size)
        self._resting.forget()
        sound, self._sound = self._sound, False
        points = [point_of(action.id) for action in actions]
        present = {
            record.id for record in self._shard.retrieve([p for p in points if p], False, False)
        }
        final: dict[
            uuid.UUID, StoredVector | None
        ] = {}  # point -> its vector, or None to delete it
        results = []
        for action, point in zip(actions, points, strict=True):
            if point is None:
                results.append(ItemResult(400, f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8"))
            elif action.fields is None:
                results.append(ItemResult(200 if point in present else 404))
                present.discard(point)
                final[point] = None
            else:
                try:
                    final[point] = checked(action.id, action.fields, action.features)
                except ValueError as exc:
                    results.append(ItemResult(400, str(exc)))
                    continue
                results.append(ItemResult(200 if point in present else 201))
                present.add(point)
        self._write({point: vector for point, vector in final.items() if vector is not None})
        if deleted := [point for point, vector in final.items() if vector is None]:
            self._shard.update(edge.UpdateOperation.delete_points(list(deleted)))
        # Edge's log survives the death of this process, but only a flush survives a power cut.
        self._shard.flush()
        self._bm25 = None
        self._unoptimized += len(final)
        if self._unoptimized >= _OPTIMIZE_EVERY:
            self.optimize()
        self._sound = sound
        return results

    def _write(self, vectors: Mapping[uuid.UUID, StoredVector]) -> None:
        self._feature_ids.add(name for vector in vectors.values() for name in vector.features)
        numbers = self._feature_ids.numbers
        points = [
            edge.Point(
                point,
                {
                    FIELD: edge.SparseVector(
                        [*map(numbers.__getitem__, vector.features)],
                        list(vector.features.values()),
                    )
                },
                vector.payload,
            )
            for point, vector in vectors.items()
        ]
        if points:
            self._shard.update(edge.UpdateOperation.upsert_points(points))

    def optimize(self) -> None:
        """Build the index of what is not indexed yet; fast below ten megabytes."""
        if self._shard.optimize():
            self._shard.flush()
        self._unoptimized = 0

    def count(self) -> int:
        """Number of documents."""
        return self._shard.count(edge.CountRequest(exact=True))

    def search(self, clauses: Sequence[Clause], k: int, filter: Filter | None) -> list[Hit]:
        """The k best documents with their fields, ties by document id."""
        best = self.search_ids(clauses, k, filter)
        points: list[edge.PointId] = [uuid.uuid5(POINTS, hit.id) for hit in best]
        payloads = [_payload(record) for record in self._shard.retrieve(points, True, False)]
        sources = {payload["id"]: json.loads(payload["source"]) for payload in payloads}
        for source in sources.values():
            source.pop(FIELDS_FIELD, None)  # it repeats the others, and no engine shows it
        return [Hit(hit.id, hit.score, sources[hit.id]) for hit in best]

    def search_ids(
        self, clauses: Sequence[Clause], k: int, filter: Filter | None
    ) -> list[ScoredId]:
        """The k best, ties by document id."""
        boosts: dict[int, float] = {}
        for feature, boost in clauses:
            if (dimension := self._feature_ids.numbers.get(feature)) is not None:
                boosts[dimension] = boosts.get(dimension, 0.0) + boost
        if not boosts:
            return []
        query = edge.Query.Nearest(
            edge.SparseVector(list(boosts), list(boosts.values())), using=FIELD
        )
        allowed = self._allowed(filter)
        limit = k + 1
        while True:
            found = self._shard.query(edge.QueryRequest(limit=limit, query=query))
            hits = [
                ScoredId(id, point.score)
                for id, point in zip(self._ids_of(found), found, strict=True)
                if allowed is None or id in allowed
            ]
            # Edge breaks ties in an order of its own, so all that tie with the last are needed.
            if len(found) < limit or (len(hits) > k and hits[-1].score < hits[k - 1].score):
                break
            limit *= 4
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[:k]

    def _ids_of(self, found: Sequence[edge.ScoredPoint]) -> list[str]:
        # Each access to `id` makes a new UUID, which is slow to hash, other than its number.
        points = [cast("uuid.UUID", point.id) for point in found]
        unknown: list[edge.PointId] = [p for p in points if p.int not in self._ids]
        for record in self._shard.retrieve(unknown, _IDS_ONLY, False):
            self._ids[cast("uuid.UUID", record.id).int] = (record.payload or {})["id"]
        return [self._ids[point.int] for point in points]

    def _allowed(self, filter: Filter | None) -> set[str] | None:
        """Ids of the documents that pass a filter, by looking at each; None without a filter."""
        if not filter:
            return None
        return {
            payload["id"]
            for payload in self._payloads()
            if passes(json.loads(payload["source"]), filter)
        }

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float] | None:
        """What each feature adds to the score of a document; None if it does not exist."""
        point = point_of(id)
        records = self._shard.retrieve([point], False, [FIELD]) if point else []
        if not records:
            return None
        vector = cast("dict[str, edge.SparseVector]", records[0].vector)[FIELD]
        values = dict(zip(vector.indices, vector.values, strict=True))
        contributions: dict[str, float] = {}
        for feature, boost in clauses:
            if value := values.get(self._feature_ids.numbers.get(feature, -1)):
                contributions[feature] = contributions.get(feature, 0.0) + boost * value
        return contributions

    def search_bm25(
        self, texts: Sequence[str], k: int, filter: Filter | None
    ) -> list[list[ScoredId]]:
        """The k best documents of each text by BM25."""
        if self._bm25 is None:
            self._bm25 = Bm25(map(_document, self._payloads()))
        return self._bm25.search(texts, k, self._allowed(filter))

    def document_frequencies(self, features: Sequence[str]) -> list[int]:
        """In how many documents each feature occurs."""
        counts: Counter[int] = Counter()
        offset = None
        while True:
            request = edge.ScrollRequest(offset, _PAGE, with_payload=False, with_vector=[FIELD])
            records, offset = self._shard.scroll(request)
            for record in records:
                vector = cast("dict[str, edge.SparseVector]", record.vector)[FIELD]
                counts.update(vector.indices)
            if offset is None:
                return [counts[self._feature_ids.numbers.get(name, -1)] for name in features]

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hash of each document that exists."""
        points: list[edge.PointId] = [point for id in ids if (point := point_of(id))]
        payloads = [_payload(record) for record in self._shard.retrieve(points, True, False)]
        sources = {payload["id"]: json.loads(payload["source"]) for payload in payloads}
        return {id: s[HASH_FIELD] for id, s in sources.items() if HASH_FIELD in s}

    def ids(self) -> Iterator[str]:
        """The id of every document."""
        offset = None
        while True:
            request = edge.ScrollRequest(offset, _PAGE, with_payload=_IDS_ONLY, with_vector=False)
            records, offset = self._shard.scroll(request)
            yield from ((record.payload or {})["id"] for record in records)
            if offset is None:
                return

    def documents(self, ids: Sequence[str]) -> list[Document]:
        """Documents as they were loaded, in the order of their ids; unknown ids are left out."""
        points: list[edge.PointId] = [point for id in ids if (point := point_of(id))]
        records = self._shard.retrieve(points, True, False)
        found = {document.id: document for document in map(_document, map(_payload, records))}
        return [found[id] for id in ids if id in found]

    def _payloads(self) -> Iterator[dict[str, Any]]:
        """The payload of every document."""
        offset = None
        while True:
            request = edge.ScrollRequest(offset, _PAGE, with_payload=True, with_vector=False)
            records, offset = self._shard.scroll(request)
            yield from map(_payload, records)
            if offset is None:
                return


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise EngineError(
            f"The disk of {directory} is full: {free / 1e6:,.1f} MB are free, and "
            f"{needed / 1e6:,.1f} MB are needed",
            "Make room on it.",
        )


def _payload(record: edge.Record) -> dict[str, Any]:
    return record.payload or {}


def _document(payload: Mapping[str, Any]) -> Document:
    return Document.from_source(payload["id"], json.loads(payload["source"]))
