"""The conductor: one load of a corpus into an index, from the first look to the alias.

    source ─items→ seen ids ─→ journal ─→ unchanged ─→ encoded ─→ bulk requests ─→ acknowledged
                                                                        └→ checked ─→ published

It knows the order of these steps, and carries what a load carries: the index, the source, the
journal and the file of rejects.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from splade_es.data.rejects import Rejects, check_rejects, default_rejects, rejects_file
from splade_es.engines.base import EngineIndex, check_field_type
from splade_es.errors import IndexExists, Interrupted, NotPublished, SettingsError, SpladeEsError
from splade_es.index_meta import check_same
from splade_es.indexing.aliases import check_alias, check_not_replaced, next_name, publish
from splade_es.indexing.bulk_actions import ActionBuilder
from splade_es.indexing.bulk_requests import send_documents
from splade_es.indexing.bulk_sender import Pace
from splade_es.indexing.changes import SeenIds, Unchanged, delete_documents, find_missing
from splade_es.indexing.gate import check_counts, check_deletion
from splade_es.indexing.journal import Journal
from splade_es.indexing.load_settings import has_loading_settings, loading_settings
from splade_es.indexing.sample import Sample
from splade_es.indexing.settings import LoadSettings, make_design
from splade_es.indexing.source import DocumentSource, default_journal
from splade_es.indexing.tally import Tally
from splade_es.progress import LoadProgress


class Load:
    """One load. `steps` runs it, once.

    index: the target, or with the setting `alias` the alias. Raises SettingsError for settings that
    do not go together.
    """

    def __init__(self, index: EngineIndex, source: DocumentSource, settings: LoadSettings) -> None:
        if settings.get("recreate") and (settings.get("resume") or settings.get("alias")):
            raise SettingsError("`recreate` starts over: leave out `resume` and `alias`")
        if settings.get("resume") and source.file is None and not settings.get("journal"):
            raise SettingsError("Standard input is resumed with the `journal` of the first run")
        check_field_type(index.engine, settings.get("field_type"))
        self._design = make_design(index, settings)
        self._target = index
        self._index = index
        self._source = source
        self._settings = settings
        self._rejects_path = settings.get("rejects") or default_rejects(source.corpus)
        check_rejects(self._rejects_path, source.file)
        self._journal_path = settings.get("journal") or default_journal(source.file, index.name)
        written = [path for path in (self._journal_path, self._rejects_path) if path]
        if len({*map(os.path.realpath, written)}) < len(written):
            raise SettingsError("`journal` and `rejects` name the same file", "Name another file.")
        self._journal: Journal | None = None

    def steps(self) -> Generator[LoadProgress, None, None]:
        """Run the load, and yield its counts after each request and at the end.

        Ctrl-C raises Interrupted once there is something to resume. Raises EngineError, CorpusError
        and ModelError; what was acknowledged stays.
        """
        with ExitStack() as stack:
            rejects = stack.enter_context(
                rejects_file(Path(self._rejects_path), self._settings.get("fail_fast", False))
            )
            self._open_journal(stack)
            stack.enter_context(self._source.open())
            self._index = self._choose_index()
            with self._resumable():
                progress = yield from self._load(rejects)
            if self._journal:
                self._journal.finish()
        yield progress

    def _load(self, rejects: Rejects) -> Generator[LoadProgress, None, LoadProgress]:
        """Yields the counts after each request; returns those of the end."""
        # what a killed run sent of edited lines; an index in use has documents of others as well
        strays = bool(self._beside and self._journal and self._journal.header)
        if strays and self._target.exists():
            strays = self._target.uuid() != self._index.uuid()
        new = self._open_index()
        self._index.pin()
        seen, sample = SeenIds(), Sample()
        unchanged = None if new else Unchanged(self._index, self._source.settings)
        items = self._source.items()
        if self._beside:
            items = sample.watch(items)
        if strays or self._settings.get("delete_missing"):
            items = seen.watch(items)
        if self._journal:
            items = self._journal.remaining(items, rejects)
        if unchanged:
            items = unchanged.changed(items)
        encoded = self._source.encoded(items, rejects)

        replicas = self._settings.get("replicas_while_loading", True)
        with loading_settings(self._index, replicas=replicas) if new else nullcontext():
            self._index.refresh()
            tally = Tally(self._index, rejects, self._journal, unchanged)
            builder = ActionBuilder(
                self._source.vocabulary, self._source.settings, self._index.meta().model
            )
            pace = Pace(self._settings.get("request_bytes", Pace.LARGEST))
            yield from send_documents(encoded, builder, self._index, tally, pace)
            self._index.refresh()
            tally.check_count()
            if strays:
                delete_documents(self._index, find_missing(self._index, seen))
        return self._end(tally, seen, sample)

    def _end(self, tally: Tally, seen: SeenIds, sample: Sample) -> LoadProgress:
        """What cannot be undone, once every document is acknowledged or rejected, and is good."""
        progress, max_shrink = tally.progress(), self._settings.get("max_shrink", 0.1)
        max_rejected = self._settings.get("max_rejected", 0)
        if self._settings.get("delete_missing") and progress.rejected <= max_rejected:
            # otherwise a rejected line may be one that only seems to be missing
            missing = find_missing(self._index, seen)
            documents = self._index.count()
            check_deletion(len(missing), documents, index=self._index.name, max_shrink=max_shrink)
            progress = replace(progress, deleted=delete_documents(self._index, missing))
        if self._settings.get("force_merge"):
            self._index.force_merge()
        if not self._beside:
            return progress
        before = self._target.count() if self._target.exists() else 0
        check_counts(
            progress, self._index.count(), before, target=self._target.name,
            max_rejected=max_rejected, max_empty=self._settings.get("max_empty", 0.5),
            max_shrink=max_shrink,
        )  # fmt: skip
        try:
            sample.check(self._index, self._source, tally.refused)
        except NotPublished:
            if self._journal:
                self._journal.finish()  # to resume into such an index would be wrong
            raise
        if self._settings.get("alias"):
            return replace(progress, previous=tuple(publish(self._target, self._index)))
        self._target.replace_with(self._index)
        return replace(progress, index=self._target.name)

    @property
    def _beside(self) -> bool:
        """Whether a new index is built that takes the place of another when it is whole."""
        return self._index.name != self._target.name

    def _choose_index(self) -> EngineIndex:
        """The index that is loaded: the target, the one that was begun, or a new one."""
        if self._settings.get("alias"):
            check_alias(self._target)
        elif self._target.exists():
            self._target.check_own()
        name = self._target.name
        if self._journal and (header := self._journal.header):
            name = header["index"]
            gone = not self._target.engine.index(name).exists() and self._target.exists()
            if gone and self._target.uuid() == header["uuid of the index"]:
                name = self._target.name  # it took its place before the run was killed
            elif self._settings.get("alias") and not gone:
                check_not_replaced(self._target, self._target.engine.index(name))
        elif self._settings.get("alias") or (
            self._settings.get("recreate") and self._target.exists()
        ):
            name = next_name(self._target)
        return self._target.engine.index(name, retry=True)

    def _open_journal(self, stack: ExitStack) -> None:
        if self._journal_path:
            self._journal = Journal.open(
                Path(self._journal_path),
                resume=self._settings.get("resume", False),
                recreate=self._settings.get("recreate", False),
            )
            stack.enter_context(closing(self._journal))

    def _open_index(self) -> bool:
        """Create the index, or check that what exists was made the same way.

        Returns whether the load created it, in this run or an earlier one. Raises IndexMismatch and
        CorpusError if the source, or the journal, does not fit the index.
        """
        index, meta, journal = self._index, self._source.meta, self._journal
        if journal and journal.header:
            check_same(index.meta(), meta, index.name)
            new = bool(journal.header.get("new"))
        elif not self._beside and index.exists():
            check_same(index.meta(), meta, index.name)
            # or an earlier load was killed before it could restore them
            new = has_loading_settings(index)
        else:
            try:
                index.create(
                    meta,
                    field_type=self._settings.get("field_type"),
                    design=self._design,
                )
            except IndexExists:
                if not self._beside:
                    raise
                # another load took that name at the same time, or one that was killed
                self._index = self._choose_index()
                return self._open_index()
            new = True
        if journal:
            index.refresh()
            journal.bind(
                {
                    "index": journal.header.get("index", index.name),  # which it chose
                    "uuid of the index": index.uuid(),
                    "alias": bool(self._settings.get("alias")),
                    "model": meta.fingerprint,
                    "vocabulary": meta.vocabulary,
                    "codec": meta.codec,
                    "scale": meta.scale,
                    "length": meta.max_length,
                    "setting": self._source.settings,
                },
                {"documents": index.count(), "new": new},
            )
        return new

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """What ends a load says how to resume it."""
        journal = self._journal
        try:
            yield
        except KeyboardInterrupt as error:
            if journal is None or not journal.bound:
                raise
            raise Interrupted(
                "Interrupted: what was acknowledged is loaded", "Continue with `resume`."
            ) from error
        except SpladeEsError as error:
            if journal and journal.bound and journal.path.exists():
                error.hint = (
                    f"{error.hint} What was acknowledged is loaded; continue with `resume`."
                )
            raise
