"""What may be set of a load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from splade_es.engines.base import EngineIndex, FieldType
from splade_es.errors import EngineError
from splade_es.mappings import IndexDesign
from splade_es.records import Source
from splade_es.vectors.settings import EncodingSettings


class LoadSettings(EncodingSettings, total=False):
    """Settings of a load; each may be left out. Those of `EncodingSettings` are among them.

    Attributes
    ----------
    alias : bool
        Build a new index NAME-<date>-<n>, check it, and let the alias NAME point to it in one step.
    recreate : bool
        If the index exists, build a new one NAME-<date>-<n> beside it, with the settings of this
        call, check it, and let it take the place of the old one, which is deleted. On a server NAME
        is an alias from then on.
    max_rejected : int
        How many lines may be rejected before what would be replaced or deleted stays as it is;
        0 by default.
    max_empty : float
        Share of the new documents that may be without any term; 0.5 by default.
    max_shrink : float
        Share of the documents that may disappear when an index is replaced, or by
        `delete_missing`; 0.1 by default.
    resume : bool
        Continue an earlier load of the same corpus where it ended.
    journal : str
        File that records what is done. By default CORPUS.INDEX.journal beside the corpus, or in
        the current directory where that of the corpus is read-only.
    delete_missing : bool
        At the end, delete documents that the corpus does not contain.
    replicas_while_loading : bool
        Load a new index with its replicas, which is the default. Without them a load is faster, and
        losing a node loses it.
    force_merge : bool
        At the end, rewrite the index as one segment.
    field_type : {"rank_features", "sparse_vector"}
        Field type of a new index. By default rank_features where the server has it.
    source : {"full", "no-vectors"}
        What a new index keeps in `_source`, see `splade_es.records.Source`.
    shards, replicas : int
        Numbers of primary shards of a new index, and of their copies. By default one shard, and a
        copy where there is a second node.
    analyzer : str
        Analyzer of title and text in a new index, for BM25: one of the server's, such as "german",
        or one that `settings` define. By default words without English stop words.
    mapping, settings : mapping
        Laid over those of a new index, as the server takes them:
        `mapping={"properties": {"year": {"type": "integer"}}}`.
    rejects : str
        File for bad lines. By default CORPUS.rejects.jsonl in the current directory, because that
        of a corpus is often read-only.
    fail_fast : bool
        Stop at the first bad line.
    request_bytes : int
        Largest bulk request; 4,000,000 by default. Requests begin smaller and grow while that pays.
    """

    alias: bool
    recreate: bool
    max_rejected: int
    max_empty: float
    max_shrink: float
    resume: bool
    journal: str | None
    delete_missing: bool
    replicas_while_loading: bool
    force_merge: bool
    field_type: FieldType | None
    source: Source
    shards: int | None
    replicas: int | None
    analyzer: str | None
    mapping: Mapping[str, Any]
    settings: Mapping[str, Any]
    rejects: str | None
    fail_fast: bool
    request_bytes: int


def make_design(index: EngineIndex, settings: LoadSettings) -> IndexDesign:
    """The design of a new index. Raises SettingsError, and EngineError where there is none."""
    names = ("shards", "replicas", "analyzer", "mapping", "settings")
    given: dict[str, Any] = {
        name: value for name in names if (value := settings.get(name)) not in (None, {})
    }
    if given and index.settings is None:
        raise EngineError(
            f"The {index.engine.name} engine has no {min(given)}", f"Leave out `{min(given)}`."
        )
    return IndexDesign(settings.get("source", "full"), **given)
