"""The conductor of encoding a corpus into a folder, from its first line to the complete folder."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from splade_es.data.corpus import open_corpus
from splade_es.data.rejects import check_rejects, default_rejects, rejects_file
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.errors import Interrupted
from splade_es.progress import EncodeProgress
from splade_es.vectors.encode import encode_documents
from splade_es.vectors.settings import (
    EncodingSettings,
    check_encoding,
    make_quantizer,
    open_encoder,
)
from splade_es.vectors.writer import PART_DOCUMENTS, VectorWriter, check_output


class EncodeSettings(EncodingSettings, total=False):
    """Settings of encoding a corpus into a folder. Each may be left out.

    Those of `EncodingSettings` are among them.

    Attributes
    ----------
    resume : bool
        Continue a folder whose encoding was interrupted.
    rejects : str
        File for bad lines. By default CORPUS.rejects.jsonl in the current directory.
    fail_fast : bool
        Stop at the first bad line.
    """

    resume: bool
    rejects: str | None
    fail_fast: bool


class EncodeFolder:
    """Encodes one corpus into one folder. `steps` runs it, once.

    Parameters
    ----------
    corpus : str
        JSON Lines, "-" for standard input, or a BEIR folder.
    output : str
        The folder.
    model : str or TextEncoder
        Directory or hub name, or an encoder.
    settings : EncodeSettings
        How the documents are encoded.
    part_documents : int
        Documents of one part of the folder.

    Raises
    ------
    CorpusError
        The corpus cannot be read or has no document, or the folder cannot be written.
    SettingsError
        Settings that do not go together.
    ModelError
        A setting of the stored weights is out of range.
    """

    def __init__(
        self,
        corpus: str,
        output: str,
        model: str | TextEncoder | None,
        settings: EncodeSettings,
        *,
        part_documents: int = PART_DOCUMENTS,
    ) -> None:
        self._model = check_encoding(model, settings)
        self._output = output
        self._settings = settings
        self._resume = settings.get("resume", False)
        self._part_documents = part_documents
        self._quantizer = make_quantizer(settings)
        check_output(Path(output), self._resume)
        self._rejects_path = settings.get("rejects") or default_rejects(corpus)
        self._items, file = open_corpus(corpus)
        check_rejects(self._rejects_path, file)

    def steps(self) -> Generator[EncodeProgress, None, None]:
        """Encode, and yield the counts after each document and at the end.

        Raises CorpusError if the folder was begun with another model, corpus or settings, or cannot
        be written; ModelError; and on Ctrl-C Interrupted: what was encoded is in the folder.
        """
        started = time.perf_counter()
        encoded = saturated = truncated = 0
        fail_fast = self._settings.get("fail_fast", False)

        def progress(documents: int) -> EncodeProgress:
            return EncodeProgress(
                documents, encoded, rejects.count, saturated, truncated, encoder.max_length,
                time.perf_counter() - started, rejects.first, rejects.path,
            )  # fmt: skip

        with (
            rejects_file(Path(self._rejects_path), fail_fast) as rejects,
            open_encoder(self._model, self._settings) as encoder,
            closing(self._open_writer(encoder)) as writer,
        ):
            try:
                items = writer.remaining(self._items)
                for item in encode_documents(items, encoder, self._quantizer, rejects):
                    encoded += 1
                    saturated += item.vector.saturated
                    truncated += item.vector.truncated
                    writer.add(item)
                    yield progress(0)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(
                    f"Interrupted: {encoded:,} documents were encoded and are in {self._output}",
                    "Continue with `resume`.",
                ) from interrupt
            finally:
                writer.flush()  # after an error, too, so that nothing need be encoded again
            documents = writer.finish()
        yield progress(documents)

    def _open_writer(self, encoder: TextEncoder) -> VectorWriter:
        return VectorWriter(
            self._output,
            encoder.vocabulary,
            make_index_meta(encoder, self._quantizer.scale),
            self._quantizer,
            encoder.precision,
            resume=self._resume,
            part_documents=self._part_documents,
        )
