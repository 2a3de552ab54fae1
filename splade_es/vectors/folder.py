"""A corpus encoded into a folder of vectors, from its first line to the complete folder."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

from splade_es.data.corpus import check_rejects, open_corpus
from splade_es.data.rejects import default_rejects, rejects_file
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.errors import Interrupted
from splade_es.progress import EncodeProgress
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.parquet import VectorWriter
from splade_es.vectors.settings import (
    EncodingSettings,
    check_encoding,
    make_quantizer,
    open_encoder,
)


class EncodeSettings(EncodingSettings, total=False):
    """Settings of encoding a corpus into a folder; each may be left out. Those of
    `EncodingSettings` are among them.

    Attributes
    ----------
    resume : bool
        Continue the folder where encoding stopped.
    rejects : str
        File for bad lines. By default CORPUS.rejects.jsonl in the current directory.
    fail_fast : bool
        Stop at the first bad line.
    """

    resume: bool
    rejects: str | None
    fail_fast: bool


class EncodeFolder:
    """One corpus into one folder. `steps` runs it, once.

    Raises, when it is made, CorpusError for a corpus that cannot be read or has no document, and
    SettingsError.
    """

    def __init__(
        self, corpus: str, output: str, model: str | TextEncoder | None, settings: EncodeSettings
    ) -> None:
        check_encoding(model, settings)
        assert model is not None
        self._model = model
        self._output = output
        self._settings = settings
        self._quantizer = make_quantizer(settings)
        self._rejects_path = settings.get("rejects") or default_rejects(corpus)
        self._items, file = open_corpus(corpus)
        check_rejects(self._rejects_path, file)

    def steps(self) -> Generator[EncodeProgress, None, None]:
        """Encode, and yield the counts after each document and at the end.

        Ctrl-C raises Interrupted; what was encoded is in the folder. Raises CorpusError if the
        folder cannot be written or was begun with other settings, and ModelError.
        """
        started = time.perf_counter()
        encoded = saturated = 0
        fail_fast = self._settings.get("fail_fast", False)

        def progress(documents: int) -> EncodeProgress:
            return EncodeProgress(
                documents, encoded, rejects.count, saturated, time.perf_counter() - started,
                rejects.first, rejects.path,
            )  # fmt: skip

        with (
            rejects_file(Path(self._rejects_path), fail_fast) as rejects,
            open_encoder(self._model, self._settings) as encoder,
        ):
            writer = VectorWriter(
                self._output,
                encoder.vocabulary,
                make_index_meta(encoder, self._quantizer.scale),
                self._quantizer,
                self._settings.get("precision") or "auto",
                resume=self._settings.get("resume", False),
            )
            try:
                items = writer.remaining(self._items)
                for item in encode_documents(items, encoder, self._quantizer, rejects):
                    encoded += 1
                    saturated += item.vector.saturated
                    writer.add(item)
                    yield progress(0)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(
                    f"Interrupted: {encoded:,} documents were encoded and are in {self._output}",
                    "Continue with `resume`.",
                ) from interrupt
            finally:
                writer.flush()
            documents = writer.finish()
        yield progress(documents)
