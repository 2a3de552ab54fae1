"""The counts of a load, kept in step with its journal and its file of rejects."""

from __future__ import annotations

import time

from splade_es.data.rejects import Rejects
from splade_es.engines.base import EngineIndex
from splade_es.errors import EngineError
from splade_es.indexing.bulk_actions import LoadRequest
from splade_es.indexing.changes import Unchanged
from splade_es.indexing.journal import Journal
from splade_es.indexing.journal_entries import Done, digest, runs, total
from splade_es.progress import LoadProgress
from splade_es.records import ItemResult

# So many documents, and none that is acknowledged: the cause is not in them.
_ALIKE = 256


class Tally:
    """Counts what an index acknowledges.

    Until the first document is acknowledged, refusals are held back: if all are alike, the load
    ends, and neither the journal nor the file of rejects has them.

    rejects: the file for what it refuses, with what reading refused; journal: takes down what is
    done; unchanged: knows what was left out.
    """

    def __init__(
        self,
        index: EngineIndex,
        rejects: Rejects,
        journal: Journal | None = None,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self._index = index
        self._rejects = rejects
        self._journal = journal
        self._unchanged = unchanged
        self._before = index.count()
        self._indexed = self._replaced = self._empty = self._saturated = self._truncated = 0
        self._max_length = index.meta().max_length
        self.refused: set[int] = set()  # numbers of documents that the engine refused
        # requests whose documents were all refused; None once one was acknowledged, now or by an
        # earlier run, or where the first refusal ends the load anyway
        self._held: list[tuple[LoadRequest, list[ItemResult]]] | None = []
        if rejects.fail_fast or (journal and journal.done):
            self._held = None
        self._resumed = 0
        self._left_out = 0  # by earlier runs
        if journal:
            self._before = journal.header["documents"]
            for done in journal.done:
                self._add(done)
            self._resumed = self._indexed + len(self.refused)
            self._left_out = sum(total(done.unchanged) for done in journal.done)

    def finished(self, request: LoadRequest, results: list[ItemResult]) -> None:
        """Count a request whose documents are all indexed or refused.

        Raises EngineError if the engine refuses every document for the same reason.
        """
        if self._held is None:
            self._count(request, results)
            return
        self._held.append((request, results))
        refused = [
            (document, result)
            for request, results in self._held
            for (document, _), result in zip(request.items, results, strict=True)
        ]
        kinds = {(result.status, result.reason.partition(":")[0]) for _, result in refused}
        known = self._unchanged is not None and self._unchanged.count > 0
        if len(kinds) > 1 or results[0].status < 400 or known:
            self._release()
        elif len(refused) >= _ALIKE:
            document, result = min(refused, key=lambda pair: pair[0].number)
            raise EngineError(
                f"{self._index.engine.name} refused the first {len(refused):,} documents alike, "
                f"{document.place} for example ({result.status}: {result.reason})",
                "Mend what they have in common, or the index.",
            )

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for request, results in held:
            self._count(request, results)

    def _count(self, request: LoadRequest, results: list[ItemResult]) -> None:
        refused = {}
        replaced = empty = saturated = truncated = 0
        for (document, vector), result in zip(request.items, results, strict=True):
            saturated += vector.saturated
            if result.status >= 400:
                reason = self._rejects.add_refused(document, self._index.engine.name, result)
                refused[document.number] = reason
            else:
                replaced += result.status == 200
                empty += not len(vector.ids)
                truncated += vector.truncated
        left_out = self._unchanged.left_out() if self._unchanged else []
        done = Done(
            runs(document.number for document, _ in request.items),
            runs(number for number, _, _ in left_out),
            digest(zip(request.ids, request.hashes, strict=True)),
            digest((id, content_hash) for _, id, content_hash in left_out),
            len(results) - len(refused), replaced, empty, saturated, truncated, refused,
        )  # fmt: skip
        if self._journal:
            self._journal.record(done)
        if self._unchanged:
            self._unchanged.acknowledged(request.ids)
        self._add(done)

    def progress(self) -> LoadProgress:
        """The counts as of now."""
        unchanged = self._left_out + (self._unchanged.count if self._unchanged else 0)
        return LoadProgress(
            index=self._index.name,
            read=self._indexed + unchanged + self._rejects.count,
            indexed=self._indexed,
            unchanged=unchanged,
            resumed=self._resumed,
            replaced=self._replaced,
            empty=self._empty,
            rejected=self._rejects.count,
            saturated=self._saturated,
            truncated=self._truncated,
            max_length=self._max_length,
            seconds=time.perf_counter() - self._started,
            first_rejected=self._rejects.first,
            rejects=self._rejects.path,
        )

    def check_count(self) -> None:
        """Count what was held back: all is sent.

        Raises EngineError if the index has fewer documents than were acknowledged.
        """
        self._release()
        expected = self._before + self._indexed - self._replaced
        if (found := self._index.count()) < expected:
            if self._journal:  # what it says is not so
                self._journal.finish()
            raise EngineError(
                f"The index {self._index.name!r} has {found:,} documents where {expected:,} were "
                "acknowledged",
                "Look for a process that deletes documents from it, and index again.",
            )

    def _add(self, done: Done) -> None:
        self._indexed += done.indexed
        self._replaced += done.replaced
        self._empty += done.empty
        self._saturated += done.saturated
        self._truncated += done.truncated
        self.refused |= done.refused.keys()
