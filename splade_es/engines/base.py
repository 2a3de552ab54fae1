"""The seam between the toolkit and a search engine.

An engine takes `Clause`s, never query DSL, and writes them in its own language. Its foreign
exceptions become `splade_es.errors` in one place of its file; nothing else leaves it.

`Engine` gives a handle for each index. What only servers can do (settings, aliases, updates of
other people's documents) has protocols of its own, which a handle offers by name or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from splade_es.errors import EngineError, QueryError
from splade_es.fields import COMPANIONS, FIELD
from splade_es.index_meta import IndexMeta
from splade_es.limits import MAX_CLAUSES, MAX_K
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
    Stored,
)

#: HTTP statuses after which the same request may succeed later. Those from 520 on are Cloudflare's.
TRY_LATER = frozenset({408, 429, 502, 503, 504, 520, 522, 524})

FieldType = Literal["rank_features", "sparse_vector"]


def check_index_name(index: str) -> None:
    """Raise EngineError unless both servers take this as the name of one index.

    Asked before every request: in a path, `*`, `a,b` and `_all` mean many indices.
    """
    if not re.fullmatch(r"(?![-_+.])[^A-Z\s\\/*?\"<>|,#:\x00-\x1f]{1,255}", index):
        raise EngineError(
            f"{index!r} is not a valid index name",
            "Use lower case letters, digits, '-', '_' and '.', and begin with a letter or a digit.",
        )


def check_search(
    queries: Sequence[Sequence[Clause]],
    k: int,
    filter: Filter | None = None,
    features_field: str = FIELD,
) -> None:
    """Raise QueryError for a k, a number of clauses, a boost or a filter that is invalid."""
    if not 1 <= k <= MAX_K:
        raise QueryError(f"`k` is {k}", f"Ask for 1 to {MAX_K:,} results.")
    for clauses in queries:
        if len(clauses) > MAX_CLAUSES:
            raise QueryError(
                f"The query has {len(clauses):,} terms, and {MAX_CLAUSES:,} is the limit",
                "Keep only the strongest terms of the query.",
            )
        for feature, boost in clauses:
            if not (math.isfinite(boost) and boost > 0):
                raise QueryError(f"The boost of {feature!r} is {boost}, not a positive number")
    for name, wanted in (filter or {}).items():
        if name in ("title", "text", features_field, *COMPANIONS) or str(name).startswith("_"):
            raise QueryError(
                f"A filter cannot compare the field {name!r}",
                "Filter by a further field of the documents.",
            )
        for value in wanted if isinstance(wanted, (list, tuple)) else [wanted]:
            number = isinstance(value, (int, float)) and abs(value) < math.inf  # which NaN is not
            if not (number or isinstance(value, str)):
                raise QueryError(
                    f"A filter cannot compare {name!r} with {value!r}",
                    "Give texts, numbers, true or false.",
                )


def check_field_type(engine: Engine, field_type: FieldType | None) -> None:
    """Raise EngineError for a field type that no index of this engine has."""
    if field_type and field_type not in engine.field_types:
        raise EngineError(
            f"{engine.name} has no field type {field_type} for features",
            "Leave out `field_type`.",
        )


class IndexSettings(Protocol):
    """Settings of an index, and notes that are kept in it. Servers only."""

    def read(self) -> dict[str, Any]:
        """All settings, as the server writes them."""

    def write(self, settings: Mapping[str, Any], timeout: float | None = None) -> None:
        """Set some; None is the server's default.

        timeout: seconds, for a request that is then sent once only.
        """

    def read_notes(self) -> dict[str, Any]:
        """All notes."""

    def write_notes(self, notes: Mapping[str, Any]) -> None:
        """Keep notes in the index. Notes of other names stay."""


class IndexAlias(Protocol):
    """The alias that has the name of a handle. Servers only."""

    def targets(self) -> list[str]:
        """The indices that the alias points to; [] if there is no such alias."""

    def move(self, before: Sequence[str], index: str) -> None:
        """Let the alias point to one index and no longer to those before, in one step.

        Raises NotPublished if another process moves it at the same time.
        """


class IndexUpdates(Protocol):
    """Features for an index that others made. Servers only."""

    def features_field(self) -> str | None:
        """Name of the field of the features; None for an index that has none."""

    def check(self, names: Sequence[str]) -> None:
        """Raise EngineError if documents cannot be updated, or their text is not in these fields.

        That is so where an update would lose a field, because `_source` is without it; for a field
        that is no text; and for one that no document has.
        """

    def add_features(self, meta: IndexMeta, features_field: str) -> None:
        """Add the fields of the features to the mapping, with what must be remembered.

        Raises IndexMismatch if the index has fields of these names.
        """

    def note_text_fields(self, names: Sequence[str]) -> None:
        """Remember which fields hold the text that is encoded."""

    def shards(self) -> int:
        """Number of primary shards."""

    def changes(self, shard: int, names: Sequence[str]) -> Iterator[Stored]:
        """These fields of the visible documents of a shard, by the last change of a document.

        One that is changed meanwhile may come again.
        """


class EngineIndex(Protocol):
    """One index of an engine, by its name. To have it sends nothing, and it need not exist.

    All methods raise `EngineError` and the errors below it; each but `create` and `exists` raises
    IndexMissing for an index that does not exist.
    """

    name: str
    #: What only servers can do; None elsewhere.
    settings: IndexSettings | None
    alias: IndexAlias | None
    updates: IndexUpdates | None

    @property
    def engine(self) -> Engine:
        """The engine it belongs to."""

    def create(
        self,
        meta: IndexMeta,
        *,
        field_type: FieldType | None = None,
        design: IndexDesign = IndexDesign(),  # noqa: B008  frozen
    ) -> None:
        """Create an empty index.

        design: for servers; the local engine never keeps a vector twice, and has no settings.
        Raises EngineError if the index exists or its name is invalid.
        """

    def exists(self) -> bool:
        """Whether the index exists."""

    def meta(self) -> IndexMeta:
        """What `create` was given. Raises IndexMismatch if splade-es did not make this index."""

    def check_own(self) -> None:
        """Raise IndexMismatch if others made the index, or one of those behind an alias."""

    def uuid(self) -> str | None:
        """Identifies this index; one that is created anew has another."""

    def pin(self) -> None:
        """From now on `bulk` raises IndexReplaced if this name stands for another index."""

    def replace_with(self, other: EngineIndex) -> None:
        """Let this name stand for another index in one step, and delete what it stood for.

        It may stand for that index already, or for none. Raises NotPublished if another process
        does the same at the same time, and as `check_own`.
        """

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one request; one result for each action, in order.

        When this returns, every item with status 200 or 201 survives the death of this process.
        Raises Unavailable if the request as a whole may succeed later (nothing, or an unknown part
        of it, was applied; sending it again is safe), and RequestTooLarge.
        """

    def refresh(self) -> None:
        """Make everything acknowledged visible to searches."""

    def count(self) -> int:
        """Visible documents."""

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Content hash of each document that exists, as of the last acknowledged write."""

    def ids(self) -> Iterator[str]:
        """The id of every visible document."""

    def force_merge(self) -> None:
        """Rewrite the index as one segment; returns when it is done, which may take hours."""

    def search(
        self,
        clauses: Sequence[Clause],
        k: int,
        *,
        contributions: bool = False,
        filter: Filter | None = None,
    ) -> list[Hit]:
        """The k best documents by the sum of boost x stored integer, with their source fields.

        contributions: also the parts of that sum.
        """

    def search_many(
        self, queries: Sequence[Sequence[Clause]], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        """`search` for many queries at once, ids and scores only.

        A query without clauses has no results.
        """

    def search_bm25(
        self, texts: Sequence[str], k: int, *, filter: Filter | None = None
    ) -> list[list[ScoredId]]:
        """BM25 over title and text of the same documents, for many texts at once."""

    def document_frequencies(self, features: Sequence[str]) -> list[int]:
        """In how many visible documents each feature occurs."""

    def documents(self, ids: Sequence[str]) -> list[Document]:
        """These documents as they were loaded, in the order of their ids.

        An id that does not exist, or is not visible yet, is left out.
        """

    def explain(self, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        """What each feature adds to the score of one document. {} if it does not match.

        Raises QueryError if the document does not exist.
        """

    def stats(self) -> IndexStats:
        """Documents, bytes on disk, field type."""

    def delete(self) -> None:
        """Delete the index with all its documents. Raises as `check_own`."""


class Engine(Protocol):
    """A search engine: a server, or the local one. All methods raise EngineError."""

    name: str  # "local", "opensearch" or "elasticsearch"
    version: str
    where: str  # URL without credentials, or a directory
    field_types: tuple[FieldType, ...]  # what `create` may be asked for

    def index(self, name: str, *, retry: bool = False) -> EngineIndex:
        """A handle of an index.

        retry: whether a request that may succeed later is sent again for two minutes, as a load of
        hours needs it, or is an error at once. `bulk` never is: its caller knows better.
        """

    def indices(self) -> list[str]:
        """Names of the indices that splade-es made, or added features to, sorted."""

    def close(self) -> None:
        """Release connections, locks and files. Safe to call twice."""
