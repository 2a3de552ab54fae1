"""Teachers: models that say how well a document answers a query."""

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

from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.torch_encoder import Encoder, pick_device
from splade_es.errors import ModelError
from splade_es.models.model import quiet_transformers

_BATCH = {"cpu": 32, "cuda": 128, "mps": 32}
# What sentence-transformers' ranking losses multiply a cosine by unless told otherwise, so that
# these are the logits the encoder was trained with. A bare cosine differs by a few tenths only.
_COSINE_SCALE = 20.0
# Vectors a teacher keeps, with their texts: a few hundred megabytes.
_KEPT_ROWS = 50_000
_HINT = (
    "Name a cross-encoder, a sentence encoder or a SPLADE model: a directory, or one of the "
    "Hugging Face hub."
)


class Teacher(Protocol):
    """name: directory or hub name, for messages."""

    name: str

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number for each (query, document), in order: the higher the better."""


def load_teacher(name: str) -> Teacher:
    """A cross-encoder, a sentence encoder or a SPLADE model, whichever its files say.

    Raises ModelError.
    """
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(name)
            found = cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False)
        modules = json.loads(Path(found).read_bytes()) if found else []
        kinds = {str(module["type"]).rpartition(".")[2] for module in modules}
    except Exception as error:  # transformers raises whatever its parsers raise
        why = (
            "no model config in this directory that can be read"
            if os.path.isdir(name)
            else "no such directory, and the Hugging Face hub gave no such model"
        )
        raise ModelError(f"{name}: {why}", _HINT) from error
    architecture = (config.architectures or ["a model without a head"])[0]
    if "Pooling" in kinds:  # before the architecture: many a sentence encoder is called a masked LM
        return SentenceTeacher(name)
    if architecture.endswith("ForMaskedLM"):
        return SpladeTeacher(name)
    if architecture.endswith("ForSequenceClassification"):
        return CrossEncoderTeacher(name)
    raise ModelError(f"{name}: {architecture} is no teacher", _HINT)


def _load_with_sentence_transformers(name: str, kind: str, what: str, device: str) -> Any:
    """Its class `kind`. float32 whatever the checkpoint is kept in. Raises ModelError."""
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
    """A model that reads query and document together; its score is the raw logit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = pick_device()
        # float32 whatever the checkpoint is kept in; autocast decides what is rounded
        self._model = _load_with_sentence_transformers(
            name, "CrossEncoder", "cross-encoder", str(self._device)
        )
        if self._model.num_labels != 1:
            raise ModelError(
                f"{name}: a classifier of {self._model.num_labels} classes, and a teacher has one "
                "score",
                "Name a cross-encoder that was trained to rank.",
            )

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        # float16 and not bfloat16: that has 8 bits, and the differences of two scores are learned
        scores = self._predict(pairs, half=self._device.type == "cuda")
        # what overflows in float16 does not in float32
        if over := np.flatnonzero(~np.isfinite(scores)).tolist():
            scores[over] = self._predict([pairs[i] for i in over], half=False)
        return [float(score) for score in scores]

    def _predict(self, pairs: Sequence[tuple[str, str]], half: bool) -> Any:
        """float32 [len(pairs)]. It sorts by length, so that a batch has little padding."""
        with torch.autocast(self._device.type, torch.float16, enabled=half):
            return self._model.predict(
                list(pairs),
                batch_size=_BATCH[self._device.type],
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            )


class SentenceTeacher:
    """A dense encoder of sentence-transformers: its similarity, 20 times if that is a cosine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = pick_device()
        self._model = _load_with_sentence_transformers(
            name, "SentenceTransformer", "sentence encoder", str(self._device)
        )
        self._queries = _Kept()
        self._documents = _Kept()

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
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
    """A SPLADE model, whose score is the dot product: a student can learn from its elder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._query_encoder = load_query_encoder(name)
        self._encoder = Encoder.load(name)
        self._queries = _Kept()
        self._documents = _Kept()

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        queries = self._queries.rows([query for query, _ in pairs], self._query_encoder.encode)
        documents = self._documents.rows([text for _, text in pairs], self._encoder.encode)
        scores = []
        dense = np.zeros(len(self._encoder.vocabulary), np.float32)  # [V] of one query
        for query, document in zip(queries, documents, strict=True):
            dense[query.ids] = query.weights
            scores.append(float(dense[document.ids] @ document.weights))
            dense[query.ids] = 0.0
        return scores


class _Kept:
    """Vectors of texts that will be asked for again: a mined document is a negative of many."""

    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}

    def rows(self, texts: list[str], encode: Callable[[list[str]], Iterable[Any]]) -> list[Any]:
        """Of each text, in order; those not seen lately are encoded now, all at once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        self._rows.update(zip(new, encode(new) if new else (), strict=True))
        rows = [self._rows[text] for text in texts]
        for text in list(islice(self._rows, max(0, len(self._rows) - _KEPT_ROWS))):
            del self._rows[text]  # the oldest
        return rows
