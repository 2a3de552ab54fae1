"""SPLADE features for an index that exists and is in use.

Documents are read in the order of their last change (`_seq_no`), shard by shard, and updated only
if no other writer has changed them since. All are read again until nothing is left to do, and what
is done is known by its hash: so a document that changed meanwhile is found, and a run that was
interrupted continues when it is started again.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from splade_es.data.rejects import Rejects, check_rejects, default_rejects, rejects_file
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.engines.base import EngineIndex, IndexUpdates
from splade_es.engines.responses import text_of
from splade_es.errors import EngineError, IndexMismatch, SettingsError
from splade_es.fields import COMPANIONS, FIELD
from splade_es.index_meta import check_same
from splade_es.indexing.bulk_actions import ActionBuilder
from splade_es.indexing.bulk_sender import BulkSender, Pace
from splade_es.progress import BackfillProgress
from splade_es.quantize import Quantizer
from splade_es.records import Action, Document, Encoded, ItemResult, Quantized, Stored
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.settings import (
    EncodingSettings,
    check_encoding,
    make_quantizer,
    open_encoder,
)

# Documents of an update request, and those that are encoded beforehand to see if terms come out.
_REQUEST_DOCUMENTS, _SAMPLE = 256, 16


class BackfillSettings(EncodingSettings, total=False):
    """Settings of a backfill; each may be left out. Those of `EncodingSettings` are among them.

    Attributes
    ----------
    rejects : str
        File for documents that are refused. By default INDEX.rejects.jsonl in the current
        directory.
    fail_fast : bool
        Stop at the first refused document.
    features_field : str
        Name of the new field that holds the features, where the index has a field `splade` of its
        own. The index remembers it.
    """

    rejects: str | None
    fail_fast: bool
    features_field: str | None


class Backfill:
    """One backfill of an index. `steps` runs it, once.

    fields: names of the fields whose text is encoded, one after the other; outer.inner is one in an
    object, or in each object of a list. Raises SettingsError, and EngineError for an engine that
    holds no index but ours.
    """

    def __init__(
        self,
        index: EngineIndex,
        fields: Sequence[str],
        model: str | TextEncoder | None,
        settings: BackfillSettings,
    ) -> None:
        model = check_encoding(model, settings)
        if index.updates is None:
            raise EngineError(
                f"The {index.engine.name} engine holds no index that others made",
                "Connect to a server.",
            )
        if not fields:
            raise SettingsError("`fields` is empty", "Name a field with text.")
        name = settings.get("features_field")
        if name is not None and (not re.fullmatch(r"[^\W_][\w-]*", name) or name in COMPANIONS):
            raise SettingsError(
                f"`features_field` cannot be {name!r}",
                "Use letters, digits, '-' and '_', and no name of another field of splade-es.",
            )
        self._index = index
        self._updates = index.updates
        self._fields = list(fields)
        self._model = model
        self._settings = settings
        self._quantizer = make_quantizer(settings)
        self._rejects_path = settings.get("rejects") or default_rejects(index.name)
        check_rejects(self._rejects_path)

    def steps(self) -> Generator[BackfillProgress, None, None]:
        """Give each document features of its text, and yield the counts after each request.

        An index that has features must have been made with the same model: raises IndexMismatch.
        Raises EngineError, before anything is changed, if a field is not one with text, if the
        texts get no terms, or if an update would lose something. A document that another writer
        changes is never overwritten.
        """
        self._updates.check(self._fields)
        present, wanted = self._updates.features_field(), self._settings.get("features_field")
        if present and wanted not in (None, present):
            raise IndexMismatch(
                f"The features of {self._index.name!r} are in the field {present!r}",
                "Leave out `features_field`.",
            )
        features_field = present or wanted or FIELD
        with (
            rejects_file(
                Path(self._rejects_path), self._settings.get("fail_fast", False)
            ) as rejects,
            open_encoder(self._model, self._settings) as encoder,
        ):
            meta = make_index_meta(encoder, self._quantizer.scale)
            if present:
                check_same(self._index.meta(), meta, self._index.name)
            self._check_terms(encoder)
            if not present:
                self._updates.add_features(meta, features_field)
            self._updates.note_text_fields(self._fields)
            self._index.pin()
            pass_ = _Pass(
                self._index, self._updates, self._fields, self._quantizer, rejects,
                encoder.max_length,
            )  # fmt: skip
            builder = ActionBuilder(encoder.vocabulary, self._quantizer.settings, meta.model)
            while True:
                # another backfill, with another model, may have begun at the same time
                check_same(self._index.meta(), meta, self._index.name)
                self._index.refresh()
                before = pass_.attempted
                sender = BulkSender(self._index, pass_.finished, Pace())
                try:
                    encoded = encode_documents(pass_.stale(), encoder, self._quantizer, rejects)
                    for request in _requests(encoded, builder, pass_, features_field):
                        sender.put(request)
                        yield pass_.progress()
                    sender.finish()
                finally:
                    sender.stop()
                yield pass_.progress()
                if pass_.attempted == before:
                    return

    def _check_terms(self, encoder: TextEncoder) -> None:
        """Raise EngineError if the first texts get no terms: all would lose those they have."""
        texts = (
            text
            for shard in range(self._updates.shards())
            for stored in self._updates.changes(shard, self._fields)
            if (text := text_of(stored.source, self._fields))
        )
        rows = [*encoder.encode(itertools.islice(texts, _SAMPLE))]
        vectors = self._quantizer.quantize_all(rows)
        if not any(isinstance(vector, Quantized) and vector.ids.size for vector in vectors):
            raise EngineError(
                f"None of the first {len(rows)} texts of {self._index.name!r} gets a term",
                "Check `model`, `threshold` and `top_k`.",
            )


class _Pass:
    """Reads all documents, again and again, and counts what becomes of them."""

    def __init__(
        self,
        index: EngineIndex,
        updates: IndexUpdates,
        fields: list[str],
        quantizer: Quantizer,
        rejects: Rejects,
        max_length: int,
    ) -> None:
        self.stored: dict[int, Stored] = {}  # what is being encoded, by its number
        self._started = time.perf_counter()
        self._numbers = itertools.count()
        self._index = index
        self._updates = updates
        self._fields = fields
        self._settings = quantizer.settings
        self._rejects = rejects
        self._max_length = max_length
        self._updated = self._conflicts = self._same = self._without = self._truncated = 0
        self._shards = updates.shards()

    @property
    def attempted(self) -> int:
        """Updates that were made, or refused because of another writer."""
        return self._updated + self._conflicts

    def stale(self) -> Iterator[Document]:
        """Documents whose features are not those of their text, as the index is now."""
        self._same = self._without = 0
        self.stored.clear()
        for shard in range(self._shards):
            for stored in self._updates.changes(shard, self._fields):
                place, number = f"{self._index.name}/{stored.id}", next(self._numbers)
                document = Document(
                    stored.id, text_of(stored.source, self._fields), place=place, number=number
                )
                if not document.text and stored.hash is None:
                    self._without += 1
                elif stored.hash == document.content_hash(self._settings):
                    self._same += 1
                else:
                    self.stored[document.number] = stored
                    yield document

    def finished(self, request: _Updates, results: list[ItemResult]) -> None:
        """Count a request to its end."""
        for (document, vector), result in zip(request.items, results, strict=True):
            if result.status < 300:
                self._updated += 1
                self._truncated += vector.truncated
            elif result.status in (404, 409):  # deleted, or it comes again as it is now
                self._conflicts += 1
            else:
                self._rejects.add_refused(document, self._index.engine.name, result)

    def progress(self) -> BackfillProgress:
        """The counts as of now."""
        return BackfillProgress(
            index=self._index.name,
            updated=self._updated,
            # what was updated here is read again
            unchanged=max(0, self._same - self._updated),
            without=self._without,
            conflicts=self._conflicts,
            rejected=self._rejects.count,
            truncated=self._truncated,
            max_length=self._max_length,
            seconds=time.perf_counter() - self._started,
            first_rejected=self._rejects.first,
            rejects=self._rejects.path,
        )


class _Updates(NamedTuple):
    """Documents that are updated together, see `BulkRequest`.

    items: the documents with their vectors; stored: each as the index has it; features_field: where
    the vectors go.
    """

    items: list[Encoded]
    stored: list[Stored]
    builder: ActionBuilder
    features_field: str
    size: int = 0

    @property
    def ids(self) -> list[str]:
        """See `BulkRequest.ids`."""
        return [stored.id for stored in self.stored]

    def actions(self) -> list[Action]:
        """See `BulkRequest.actions`."""
        actions, _ = self.builder.build(self.items, [{}] * len(self.items))
        return [
            action._replace(version=stored.version, features_field=self.features_field)
            for action, stored in zip(actions, self.stored, strict=True)
        ]


def _requests(
    encoded: Iterator[Encoded], builder: ActionBuilder, pass_: _Pass, features_field: str
) -> Iterator[_Updates]:
    while items := [*itertools.islice(encoded, _REQUEST_DOCUMENTS)]:
        stored = [pass_.stored.pop(document.number) for document, _ in items]
        yield _Updates(items, stored, builder, features_field)
