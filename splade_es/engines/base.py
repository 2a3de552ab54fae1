"""The seam between the toolkit and a search engine.

An engine takes Clauses, never query DSL, and spells them in its own language. Its foreign
exceptions become `splade_es.errors` in one place of its file; nothing else leaks out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from splade_es.errors import EngineError, QueryError
from splade_es.records import (
    Action,
    Clause,
    Document,
    Hit,
    IndexMeta,
    IndexStats,
    ItemResult,
    ScoredId,
    Source,
)

#: The field that holds the SPLADE features; its companions are `splade_id`, `splade_top`, ...
FIELD = "splade"
#: Results a single search may ask for: `index.max_result_window` of both servers.
MAX_K = 10_000
#: `index.query.bool.max_clause_count` of OpenSearch is 1,024; some room is left for filters.
MAX_CLAUSES = 1_000
#: The largest n for which 1..n fit in the 9 bits that Lucene keeps: 513 comes back as 512.
MAX_WEIGHT = 512
#: Bytes of a document id, as both servers count them (UTF-8).
MAX_ID_BYTES = 512
#: The same request may pass later: too many requests, bad gateway, unavailable, gateway timeout.
TRY_LATER = frozenset({429, 502, 503, 504})

FieldType = Literal["rank_features", "sparse_vector"]


def check_index_name(index: str) -> None:
    """Raises EngineError unless both servers take this as the name of one index.

    Asked before every request: in a path, `*`, `a,b` and `_all` mean many indices.
    """
    if not re.fullmatch(r"(?![-_+.])[^A-Z\s\\/*?\"<>|,#:\x00-\x1f]{1,255}", index):
        raise EngineError(
            f"{index!r} cannot be the name of an index",
            "Use lower case letters, digits, '-', '_' and '.', and begin with a letter or a digit.",
        )


def check_search(queries: Sequence[Sequence[Clause]], k: int) -> None:
    """Raises QueryError for a k, a number of clauses or a boost that no engine can answer."""
    if not 1 <= k <= MAX_K:
        raise QueryError(f"k is {k}", f"Ask for 1 to {MAX_K:,} results.")
    for clauses in queries:
        if len(clauses) > MAX_CLAUSES:
            raise QueryError(
                f"The query has {len(clauses):,} terms, and {MAX_CLAUSES:,} is the most",
                "Keep only the strongest terms of the query.",
            )
        for feature, boost in clauses:
            if not (math.isfinite(boost) and boost > 0):
                raise QueryError(f"The boost of {feature!r} is {boost}, no positive number")


def check_field_type(engine: Engine, field_type: FieldType | None) -> None:
    """Raises EngineError for a field type that no index of this engine has."""
    if field_type and field_type not in engine.field_types:
        raise EngineError(
            f"{engine.name} has no field type {field_type} for features", "Leave out --field-type."
        )


class Engine(Protocol):
    """What every engine offers. All methods raise `splade_es.errors.EngineError` and below.

    Every index method but `create` raises IndexMissing for an unknown index.
    """

    name: str  # "local", "opensearch" or "elasticsearch"
    version: str
    where: str  # URL without credentials, or a directory
    field_types: tuple[FieldType, ...]  # what `create` may be asked for

    def create(
        self,
        index: str,
        meta: IndexMeta,
        field_type: FieldType | None = None,
        source: Source = "full",
    ) -> None:
        """Make an empty index. source: see `Source`; the local engine keeps no vector twice anyway.
        Raises EngineError if it exists or its name is not allowed."""

    def exists(self, index: str) -> bool:
        """Whether there is such an index."""

    def meta(self, index: str) -> IndexMeta:
        """What `create` was given. Raises IndexMismatch if splade-es did not make this index."""

    def settings(self, index: str) -> dict[str, Any]:
        """Its settings, as the server writes them; `uuid` is another for an index made anew."""

    def bulk(self, index: str, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one request; one result for each action, in order.

        When this returns, every item with status 200 or 201 survives the death of this process.
        Raises Unavailable if the request as a whole may pass later (nothing, or an unknown part
        of it, was applied; sending it again is safe), and RequestTooLarge.
        """

    def refresh(self, index: str) -> None:
        """Make everything acknowledged visible to searches."""

    def count(self, index: str) -> int:
        """Visible documents."""

    def hashes(self, index: str, ids: Sequence[str]) -> dict[str, str]:
        """`splade_hash` of the documents that are there, as of the last acknowledged write."""

    def ids(self, index: str) -> Iterator[str]:
        """The id of every visible document."""

    def apply(self, index: str, settings: Mapping[str, Any]) -> None:
        """Set these settings of an index; None is the server's default."""

    def note(self, index: str, notes: Mapping[str, Any]) -> None:
        """Keep something about an index in the index. Notes of other names stay."""

    def noted(self, index: str) -> dict[str, Any]:
        """All notes."""

    def force_merge(self, index: str) -> None:
        """Rewrite the index as one segment; returns when it is done, which may take hours."""

    def alias(self, name: str) -> list[str]:
        """The indices behind an alias; [] if there is no such alias."""

    def move_alias(self, name: str, before: Sequence[str], index: str) -> None:
        """Let an alias stand for one index and no longer for those before, at once."""

    def search(
        self, index: str, clauses: Sequence[Clause], k: int, contributions: bool = False
    ) -> list[Hit]:
        """The k best documents by the sum of boost x stored integer, with their source fields, and
        with the parts of that sum if `contributions`."""

    def search_many(
        self, index: str, queries: Sequence[Sequence[Clause]], k: int
    ) -> list[list[ScoredId]]:
        """`search` for many queries at once, ids and scores only. A query without clauses has
        no results."""

    def match(self, index: str, texts: Sequence[str], k: int) -> list[list[ScoredId]]:
        """BM25 over title and text of the same documents: the baseline."""

    def frequencies(self, index: str, features: Sequence[str]) -> list[int]:
        """In how many visible documents each feature stands."""

    def documents(self, index: str, ids: Sequence[str]) -> list[Document]:
        """Title and text of these documents, in the order of their ids, without other fields;
        an id that is not there, or not visible yet, is left out."""

    def explain(self, index: str, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        """What each feature adds to the score of one document. {} if it does not match.
        Raises QueryError if there is no such document."""

    def stats(self, index: str) -> IndexStats:
        """Documents, bytes on disk, field type."""

    def indices(self) -> list[str]:
        """Names of the indices that splade-es made, sorted."""

    def delete(self, index: str) -> None:
        """Remove the index and all its documents."""

    def close(self) -> None:
        """Let go of connections, locks and files. Safe to call twice."""
