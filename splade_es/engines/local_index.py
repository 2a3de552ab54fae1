"""An index of the local engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from splade_es.engines.base import (
    Engine,
    EngineIndex,
    FieldType,
    IndexAlias,
    IndexSettings,
    IndexUpdates,
    check_field_type,
    check_search,
)
from splade_es.engines.local_store import LocalStore
from splade_es.errors import IndexReplaced, QueryError
from splade_es.index_meta import IndexMeta
from splade_es.mappings import IndexDesign
from splade_es.records import (
    Action,
    Clause,
    Document,
    Filter,
    Hit,
    IndexStats,
    ItemResult,
    ScoredId,
)


class LocalIndex:
    """An `EngineIndex` in a directory.

    Scores are sums in float32: exact for integer boosts, else within rounding of what the servers
    answer.
    """

    # what only servers have
    settings: IndexSettings | None = None
    alias: IndexAlias | None = None
    updates: IndexUpdates | None = None

    def __init__(self, engine: Engine, store: LocalStore, name: str) -> None:
        self.engine = engine
        self.name = name
        self._store = store
        self._uuid: str | None = None  # of the index that this handle is pinned to

    def create(
        self,
        meta: IndexMeta,
        *,
        field_type: FieldType | None = None,
        design: IndexDesign = IndexDesign(),  # noqa: B008  frozen
    ) -> None:
        check_field_type(self.engine, field_type)
        self._store.create(self.name, meta)

    def exists(self) -> bool:
        return self._store.exists(self.name)

    def meta(self) -> IndexMeta:
        return IndexMeta.from_dict(self._store.stored(self.name))

    def check_own(self) -> None:
        self.meta()  # nobody else writes to the directory

    def uuid(self) -> str | None:
        uuid: str | None = self._store.stored(self.name).get("uuid")
        return uuid

    def pin(self) -> None:
        self._uuid = self.uuid()

    def replace_with(self, other: EngineIndex) -> None:
        self._store.replace(self.name, other.name)

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        if self._uuid is not None and self._uuid != self.uuid():
            raise IndexReplaced(
                f"The index {self.name!r} was deleted and created again meanwhile",
                "Load the corpus again.",
            )
        with self._store.open(self.name) as opened:
            return opened.bulk(actions) if actions else []

    def refresh(self) -> None:
        with self._store.open(self.name) as opened:
            opened.optimize()

    def force_merge(self) -> None:
        self.refresh()

    def count(self) -> int:
        with self._store.open(self.name) as opened:
            return opened.count()

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        with self._store.open(self.name) as opened:
            return opened.hashes(ids)

    def ids(self) -> Iterator[str]:
        with self._store.open(self.name) as opened:
            ids = [*opened.ids()]  # not read under the lock: an iterator may be dropped half way
        yield from ids

    def search(
        self,
        clauses: Sequence[Clause],
        k: int,
        *,
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        check_search([clauses], k, filter)
        with self._store.open(self.name) as opened:
            hits = opened.search(clauses, k, filter)
            if contributions:
                hits = [
                    hit._replace(contributions=opened.explain(clauses, hit.id) or {})
                    for hit in hits
                ]
            return hits

    def search_many(
        self, queries: Sequence[Sequence[Clause]], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        check_search(queries, k, filter)
        with self._store.open(self.name) as opened:
            return [opened.search_ids(clauses, k, filter) for clauses in queries]

    def search_bm25(
        self, texts: Sequence[str], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        check_search([], k, filter)
        with self._store.open(self.name) as opened:
            return opened.search_bm25(texts, k, filter)

    def document_frequencies(self, features: Sequence[str]) -> list[int]:
        with self._store.open(self.name) as opened:
            return opened.document_frequencies(features)

    def documents(self, ids: Sequence[str]) -> list[Document]:
        with self._store.open(self.name) as opened:
            return opened.documents(ids)

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        with self._store.open(self.name) as opened:
            contributions = opened.explain(clauses, id)
        if contributions is None:
            raise QueryError(
                f"There is no document {id!r} in the index {self.name!r}", "Use the id of a hit."
            )
        return contributions

    def stats(self) -> IndexStats:
        documents = self.count()
        with self._store.errors(self.name):
            files = [path.stat() for path in self._store.path(self.name).rglob("*")]
        # Edge's files are sparse: 70 MB of a new index are 0.1 MB on the disk.
        size = sum(512 * f.st_blocks if hasattr(f, "st_blocks") else f.st_size for f in files)
        return IndexStats(documents, size, "sparse vector of Qdrant Edge", {})

    def delete(self) -> None:
        self._store.delete(self.name)
