"""Teachers: models that score how well a document answers a query."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from transformers.utils.hub import cached_file

from splade_es.encoders.devices import pick_device
from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError
from splade_es.models.pretrained import quiet_transformers, why_not_trusted

_BATCH = {"cpu": 32, "cuda": 128, "mps": 32}
# The ranking losses of sentence-transformers multiply a cosine by this by default: the products are
# the logits that such an encoder was trained with. Cosines themselves differ by a few tenths only.
_COSINE_SCALE = 20.0
# Vectors that a teacher keeps, with their texts: a few hundred megabytes.
_CACHED_VECTORS = 50_000
_HINT = (
    "Name a cross-encoder, a sentence encoder or a SPLADE model: a directory, or one of the "
    "Hugging Face hub."
)


class Teacher(Protocol):
    """Scores pairs of texts. name: directory or hub name, for messages."""

    name: str

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each (query, document), in order; higher is better."""


def load_teacher(name: str) -> Teacher:
    """Load a cross-encoder, a sentence encoder or a SPLADE model, as its files say.

    Raises ModelError.
    """
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            found = cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False)
        modules = json.loads(Path(found).read_bytes()) if found else []
        kinds = {str(module["type"]).rpartition(".")[2] for module in modules}
    except Exception as error:  # transformers raises whatever its parsers raise
        why = why_not_trusted(error) or (
            "there is no readable model config in this directory"
            if os.path.isdir(name)
            else "there is no such directory, and the Hugging Face hub gave no such model"
        )
        raise ModelError(f"{name}: {why}", _HINT) from error
    architecture = (config.architectures or ["a model without a head"])[0]
    if "Pooling" in kinds:  # before the architecture: some sentence encoders are called masked LM
        return SentenceTeacher(name)
    if architecture.endswith("ForMaskedLM"):
        return SpladeTeacher(name)
    if architecture.endswith("ForSequenceClassification"):
        return CrossEncoderTeacher(name)
    raise ModelError(f"{name}: {architecture} cannot be a teacher", _HINT)


def _load_with_sentence_transformers(name: str, kind: str, what: str, device: str) -> Any:
    """Load a model with a class of this package, in float32. Raises ModelError.

    kind: the class; what: its name in messages.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise ModelError(
            f"{name}: a {what} needs the package sentence-transformers",
            "Run: pip install 'splade-es[teacher]'",
        ) from error
    try:
        with quiet_transformers():
            return getattr(sentence_transformers, kind)(
                name, device=device, model_kwargs={"dtype": torch.float32}
            )
    except Exception as error:
        first = str(error).partition("\n")[0][:200]
        raise ModelError(
            f"{name}: cannot load this {what} ({first})", "Save or download it again."
        ) from error


class CrossEncoderTeacher:
    """A model that reads query and document together. Its score is the logit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = pick_device()
        self._model = _load_with_sentence_transformers(
            name, "CrossEncoder", "cross-encoder", str(self._device)
        )
        if self._model.num_labels != 1:
            raise ModelError(
                f"{name}: a classifier of {self._model.num_labels} classes, but a teacher gives a "
                "single score",
                "Name a cross-encoder that was trained to rank.",
            )

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each (query, document), in order."""
        # not bfloat16, which has 8 bits: the losses learn from differences of scores
        scores = self._predict(pairs, half=self._device.type == "cuda")
        # what overflows in float16 does not overflow in float32
        if over := np.flatnonzero(~np.isfinite(scores)).tolist():
            scores[over] = self._predict([pairs[i] for i in over], half=False)
        return [float(score) for score in scores]

    def _predict(self, pairs: Sequence[tuple[str, str]], half: bool) -> Any:
        """float32 [pairs]. The model sorts them by length, so that a batch has little padding."""
        with torch.autocast(self._device.type, torch.float16, enabled=half):
            return self._model.predict(
                list(pairs),
                batch_size=_BATCH[self._device.type],
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            )


class SentenceTeacher:
    """A dense encoder. Its score is the similarity it was trained with; a cosine times 20."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = pick_device()
        self._model = _load_with_sentence_transformers(
            name, "SentenceTransformer", "sentence encoder", str(self._device)
        )
        self._queries = _VectorCache()
        self._documents = _VectorCache()

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each (query, document), in order."""
        settings: dict[str, Any] = {
            "batch_size": _BATCH[self._device.type],
            "show_progress_bar": False,
        }
        queries = self._queries.rows(  # [len(pairs), d]
            [query for query, _ in pairs], lambda new: self._model.encode_query(new, **settings)
        )
        documents = self._documents.rows(  # [len(pairs), d]
            [text for _, text in pairs], lambda new: self._model.encode_document(new, **settings)
        )
        scores = self._model.similarity_pairwise(np.stack(queries), np.stack(documents))
        scale = _COSINE_SCALE if self._model.similarity_fn_name == "cosine" else 1.0
        return [scale * score for score in scores.tolist()]


class SpladeTeacher:
    """A SPLADE model. Its score is the dot product of query and document.

    cached_vectors: how many vectors of queries, and of documents, it keeps.
    """

    def __init__(self, name: str, cached_vectors: int = _CACHED_VECTORS) -> None:
        self.name = name
        self._query_encoder = load_query_encoder(name)
        self._encoder = Encoder.load(name)
        self._queries = _VectorCache(cached_vectors)
        self._documents = _VectorCache(cached_vectors)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each (query, document), in order."""
        queries = self._queries.rows([query for query, _ in pairs], self._query_encoder.encode)
        documents = self._documents.rows([text for _, text in pairs], self._encoder.encode)
        scores = []
        dense = np.zeros(len(self._encoder.vocabulary), np.float32)  # [V] of one query
        for query, document in zip(queries, documents, strict=True):
            dense[query.ids] = query.weights
            scores.append(float(dense[document.ids] @ document.weights))
            dense[query.ids] = 0.0
        return scores


class _VectorCache:
    """The vectors of recent texts: a mined document is a negative of many queries."""

    def __init__(self, size: int = _CACHED_VECTORS) -> None:
        self._size = size
        self._rows: dict[str, Any] = {}

    def rows(self, texts: list[str], encode: Callable[[list[str]], Iterable[Any]]) -> list[Any]:
        """The vector of each text, in order. Those that are not kept are encoded all at once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        self._rows.update(zip(new, encode(new) if new else (), strict=True))
        rows = [self._rows[text] for text in texts]
        for text in list(islice(self._rows, max(0, len(self._rows) - self._size))):
            del self._rows[text]  # the oldest
        return rows
