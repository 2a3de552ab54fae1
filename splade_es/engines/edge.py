"""One index of the local engine: a directory with three things in it.

    splade-es.json   what the index was made with
    features.jsonl   the features seen so far, a JSON string a line; the line number is the feature's
                     dimension, since Qdrant Edge knows dimensions by number only
    shard/           the shard of Qdrant Edge: vectors, documents, write-ahead log

A line of features.jsonl is on disk before the first vector that uses it, and never changes, so
whatever survives of the shard can be read. Edge writes an operation to its log before it looks at
it, and one that it cannot apply makes the shard unreadable for ever: everything is checked here.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import qdrant_edge as edge

from splade_es.engines.base import FIELD, MAX_ID_BYTES
from splade_es.errors import EngineError, QueryError, SpladeEsError, Unavailable
from splade_es.records import Action, Clause, Document, Hit, ItemResult, ScoredId

META_FILE = "splade-es.json"
# The largest integer of which both servers keep every bit; larger ones would score differently.
_MAX_VALUE = 512
# Edge knows points by number or UUID only; the real id is in the payload.
_POINTS = uuid.UUID("0d6b0d0e-6d0b-5f0c-9a55-2f2c6a1f3f0e")
# One optimization of a million documents at the end would take nine gigabytes; in steps, and with
# segments that are never merged past this size (kB), it takes a few hundred megabytes.
_OPTIMIZE_EVERY = 100_000
_CONFIG = edge.EdgeConfig(
    sparse_vectors={FIELD: edge.EdgeSparseVectorParams()},
    optimizers=edge.EdgeOptimizersConfig(default_segment_number=64, max_segment_size=200_000),
)
_IDS_ONLY = edge.PayloadSelector.Include(["id"])
_PAGE = 1000


@contextmanager
def edge_errors(index: str, where: str) -> Iterator[None]:
    """Turns what Edge and the file system raise about an index into EngineError."""
    try:
        yield
    except SpladeEsError:
        raise
    except OSError as exc:
        raise EngineError(
            f"The index {index!r} on {where} cannot be used ({exc.strerror or exc})",
            "Check the directory, its rights and the space on its disk.",
        ) from exc
    except BaseException as exc:
        # Edge raises Exception itself, and on a panic what derives from BaseException only.
        if type(exc) is not Exception and type(exc).__name__ != "PanicException":
            raise
        if "WouldBlock" in str(exc):
            raise Unavailable(
                f"The index {index!r} on {where} is in use by another process",
                "Wait until that ends, or stop it.",
            ) from exc
        raise EngineError(
            f"The index {index!r} on {where} is damaged, or its disk is full ({exc})",
            "Make room on the disk; if that does not help, index anew with --recreate.",
        ) from exc


class _Vector(NamedTuple):
    features: Mapping[str, int]
    payload: dict[str, str]


class EdgeIndex:
    """An open index. Raises, here and in every method, what Edge and the file system raise."""

    def __init__(self, directory: Path) -> None:
        self._features_file = directory / "features.jsonl"
        lines = self._features_file.read_bytes()
        # A line without its end was cut off by a crash, before any vector could use it.
        self._features_size = lines.rfind(b"\n") + 1
        names = json.loads(b"[" + lines[: self._features_size].rstrip().replace(b"\n", b",") + b"]")
        self._dimensions: dict[str, int] = {name: n for n, name in enumerate(names)}
        if len(self._dimensions) != len(names):
            raise EngineError(f"{self._features_file} has a feature twice", "Index anew.")
        self._shard = edge.EdgeShard.load(str(directory / "shard"))
        self._ids: dict[
            str, str
        ] = {}  # point -> document id; never wrong, as one is made of the other
        self._unoptimized = 0
        self._bm25: tuple[Any, list[str]] | None = None

    @staticmethod
    def create(directory: Path) -> None:
        """An empty index in an empty directory, but for META_FILE."""
        (directory / "features.jsonl").touch()
        (directory / "shard").mkdir()
        shard = edge.EdgeShard.create(str(directory / "shard"), _CONFIG)
        shard.flush()
        shard.close()

    def close(self) -> None:
        self._shard.close()

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        points = [_point(action.id) for action in actions]
        present = {
            str(record.id)
            for record in self._shard.retrieve([p for p in points if p], False, False)
        }
        final: dict[str, _Vector | None] = {}  # point -> its vector, or None to delete it
        results = []
        for action, point in zip(actions, points, strict=True):
            if point is None:
                results.append(ItemResult(400, f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8"))
            elif action.source is None:
                results.append(ItemResult(200 if point in present else 404))
                present.discard(point)
                final[point] = None
            else:
                try:
                    final[point] = _checked(action.id, action.source)
                except ValueError as exc:
                    results.append(ItemResult(400, str(exc)))
                    continue
                results.append(ItemResult(200 if point in present else 201))
                present.add(point)
        self._write({point: vector for point, vector in final.items() if vector is not None})
        if deleted := [point for point, vector in final.items() if vector is None]:
            self._shard.update(edge.UpdateOperation.delete_points(cast("list[Any]", deleted)))
        # Edge's log survives the death of this process, but only a flush survives a power cut.
        self._shard.flush()
        self._bm25 = None
        self._unoptimized += len(final)
        if self._unoptimized >= _OPTIMIZE_EVERY:
            self.optimize()
        return results

    def _write(self, vectors: Mapping[str, _Vector]) -> None:
        seen = dict.fromkeys(name for vector in vectors.values() for name in vector.features)
        if new := [name for name in seen if name not in self._dimensions]:
            lines = "".join(json.dumps(name) + "\n" for name in new).encode("ascii")
            with self._features_file.open("r+b") as file:
                file.seek(self._features_size)
                file.truncate()  # what a crash or a full disk left of an earlier attempt
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            self._features_size += len(lines)
            for name in new:
                self._dimensions[name] = len(self._dimensions)
        points = [
            edge.Point(
                point,
                {
                    FIELD: edge.SparseVector(
                        [self._dimensions[name] for name in vector.features],
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
        """Index what was written since the last time; nothing to do for a few documents."""
        if self._unoptimized:
            self._shard.optimize()
            self._shard.flush()
            self._unoptimized = 0

    def count(self) -> int:
        return self._shard.count(edge.CountRequest(exact=True))

    def search(self, clauses: Sequence[Clause], k: int) -> list[Hit]:
        best = self._best(clauses, k)
        records = self._shard.retrieve([point for point, _ in best], True, False)
        payloads = {record.id: record.payload or {} for record in records}
        return [
            Hit(payloads[point]["id"], hit.score, json.loads(payloads[point]["source"]))
            for point, hit in best
        ]

    def search_ids(self, clauses: Sequence[Clause], k: int) -> list[ScoredId]:
        return [hit for _, hit in self._best(clauses, k)]

    def _best(self, clauses: Sequence[Clause], k: int) -> list[tuple[Any, ScoredId]]:
        """Points and hits, best first, ties by document id."""
        boosts: dict[int, float] = {}
        for feature, boost in clauses:
            if (dimension := self._dimensions.get(feature)) is not None:
                boosts[dimension] = boosts.get(dimension, 0.0) + boost
        if not boosts:
            return []
        query = edge.Query.Nearest(
            edge.SparseVector(list(boosts), list(boosts.values())), using=FIELD
        )
        limit = k + 1
        while True:
            found = self._shard.query(edge.QueryRequest(limit=limit, query=query))
            # Edge breaks ties in an order of its own, so all that tie with the last are needed.
            if len(found) < limit or found[-1].score < found[k - 1].score:
                break
            limit *= 4
        if unknown := [point.id for point in found if point.id not in self._ids]:
            for record in self._shard.retrieve(unknown, _IDS_ONLY, False):
                self._ids[str(record.id)] = (record.payload or {})["id"]
        hits = [(point.id, ScoredId(self._ids[str(point.id)], point.score)) for point in found]
        hits.sort(key=lambda hit: (-hit[1].score, hit[1].id))
        return hits[:k]

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float] | None:
        """None if there is no such document."""
        point = _point(id)
        records = self._shard.retrieve([point], False, [FIELD]) if point else []
        if not records:
            return None
        vector = cast("dict[str, edge.SparseVector]", records[0].vector)[FIELD]
        values = dict(zip(vector.indices, vector.values, strict=True))
        contributions: dict[str, float] = {}
        for feature, boost in clauses:
            if value := values.get(self._dimensions.get(feature, -1)):
                contributions[feature] = contributions.get(feature, 0.0) + boost * value
        return contributions

    def match(self, texts: Sequence[str], k: int) -> list[list[ScoredId]]:
        if self._bm25 is None:
            self._bm25 = _bm25(self._documents())
        bm25, ids = self._bm25
        if bm25 is None or not texts:
            return [[] for _ in texts]
        import bm25s

        tokens = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
        rows, scores = bm25.retrieve(tokens, k=min(k, len(ids)), show_progress=False)
        return [
            [ScoredId(ids[row], score) for row, score in zip(*lists, strict=True) if score > 0]
            for lists in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def _documents(self) -> Iterator[Document]:
        offset = None
        while True:
            request = edge.ScrollRequest(offset, _PAGE, with_payload=True, with_vector=False)
            records, offset = self._shard.scroll(request)
            for record in records:
                payload = record.payload or {}
                source = json.loads(payload["source"])
                title, text = (str(source.get(key) or "") for key in ("title", "text"))
                yield Document(payload["id"], text, title)
            if offset is None:
                return


def _point(id: str) -> str | None:
    """The point of a document id; None if no engine takes this id."""
    try:
        size = len(id.encode("utf-8"))
    except UnicodeEncodeError:
        return None
    return str(uuid.uuid5(_POINTS, id)) if 1 <= size <= MAX_ID_BYTES else None


def _checked(id: str, source: Mapping[str, Any]) -> _Vector:
    """Raises ValueError, with the reason, for what Edge cannot keep or a server would not."""
    features = source.get(FIELD, {})
    if not isinstance(features, Mapping):
        raise ValueError(f"{FIELD} is no object of features and weights")
    for name, value in features.items():
        if type(name) is not str or type(value) is not int or not 1 <= value <= _MAX_VALUE:
            raise ValueError(
                f"the weight of the feature {name!r} is {value!r}, no integer in 1 to {_MAX_VALUE}"
            )
    fields = {name: value for name, value in source.items() if name not in (FIELD, "splade_id")}
    try:
        # As text, because Edge rounds large integers and cannot read deep objects back.
        stored = json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the document is no JSON: {exc}") from exc
    return _Vector(features, {"id": id, "source": stored})


def _bm25(documents: Iterator[Document]) -> tuple[Any, list[str]]:
    """BM25 over title and text with the settings of the servers' mapping, and the id of each row.
    None instead if no document has a word."""
    import bm25s  # takes most of a second

    ids, bodies = [], []
    for document in documents:
        ids.append(document.id)
        bodies.append(document.body)
    tokens = bm25s.tokenize(bodies, stopwords="en", show_progress=False)
    if not any(tokens.ids):
        return None, ids
    bm25 = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    bm25.index(tokens, show_progress=False)
    return bm25, ids
