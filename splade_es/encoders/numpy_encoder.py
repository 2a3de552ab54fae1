"""Encoding a text in numpy, for a search that ends before torch and transformers are imported.

BERT (1810.04805), RoBERTa (1907.11692) and DistilBERT (1910.01108) with the SPLADE head, in
float32, one text at a time. Most public SPLADE models are of this kind. For any other model
`NumpyEncoder.load` returns None, and `Encoder` must be used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splade_es.arguments import checked
from splade_es.encoders.activations import ACTIVATIONS, Array, gelu
from splade_es.encoders.base import TextEncoder
from splade_es.encoders.tokenizer import load_tokenizer, same_in_transformers, special_ids
from splade_es.encoders.weight_names import ROBERTA, WEIGHT_NAMES
from splade_es.models.files import Side, loading
from splade_es.records import SparseRow

# Bias of tokens that never become a feature, as `model.SUPPRESSED_BIAS`.
_SUPPRESSED_BIAS = np.float32(-1e4)


class NumpyEncoder(TextEncoder):
    """One side of a model in numpy.

    Made by `load`. The constructor raises some exception for a model it cannot handle.

    Parameters
    ----------
    name : str
        Directory or hub name of the whole model.
    side : Side
        The side to encode.
    folder : Path
        Directory of that side.
    max_length : int
        Tokens of a text.
    """

    def __init__(self, name: str, side: Side, folder: Path, max_length: int) -> None:
        from safetensors import safe_open

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
        self._names = names = WEIGHT_NAMES[kind]
        absolute = config.get("position_embedding_type", "absolute") == "absolute"
        if not absolute or config.get("sinusoidal_pos_embds"):
            raise ValueError("positions of another kind")
        self.name = os.path.abspath(name) if os.path.isdir(name) else name
        self.max_length = max_length
        self.pooling = side.pooling
        self._side = side
        self._layers, self._heads = int(config[names.layers]), int(config[names.heads])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = ACTIVATIONS[config[names.activation]]
        self._head_activation = self._activation
        self._first_position = 0
        if names is ROBERTA:
            self._head_activation = gelu  # whatever the activation of its layers
            self._first_position = config["pad_token_id"] + 1  # positions begin after the padding

        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            self._weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if {str(tensor.dtype) for tensor in self._weights.values()} - {"float32", "int64"}:
            raise ValueError("weights of another precision")
        embeddings = self._weights[f"{names.embeddings}.word_embeddings.weight"]
        positions = self._weights[f"{names.embeddings}.position_embeddings.weight"]
        if max_length + self._first_position > len(positions):
            raise ValueError("texts longer than the model's")
        self._decoder: Array = self._weights.get(names.decoder, embeddings)  # [V, d]
        bias = next(name for name in names.bias if name in self._weights)

        self._tokenizer = load_tokenizer(folder, max_length)
        size = self._tokenizer.get_vocab_size()
        tokens = [self._tokenizer.id_to_token(id) for id in range(size)]
        if size > len(self._decoder) or None in tokens:
            raise ValueError("the tokenizer of another model")
        self.vocabulary = [str(token) for token in tokens]
        if not same_in_transformers(folder, kind, self._tokenizer):
            raise ValueError("transformers would tokenise differently")
        self._special = special_ids(folder, self._tokenizer)
        self._bias: Array = self._weights[bias].copy()  # [V]
        self._bias[sorted(self._special)] = _SUPPRESSED_BIAS
        self._bias[size:] = _SUPPRESSED_BIAS

    @classmethod
    def load(cls, name: str, side: Side, max_length: int) -> NumpyEncoder | None:
        """Load one side of the model `name`; None if only torch can encode with it."""
        folder = Path(side.path)
        try:
            if not folder.is_dir():
                from huggingface_hub import hf_hub_download

                folder = Path(hf_hub_download(side.path, "model.safetensors")).parent
            with loading(name):
                encoder = cls(name, side, folder, max_length)
                ids = encoder._tokenizer.encode("a ☃").ids
                encoder._logits(np.asarray(ids, np.int64))  # do they fit the weights?
        except Exception:  # whatever is wrong, `Encoder` reports it better
            return None
        return encoder

    @checked
    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """Encode texts, in order. See `TextEncoder.encode`."""
        for text in texts:
            encoding = self._tokenizer.encode(text)
            ids = np.asarray(encoding.ids, np.int64)  # [L]
            if self._special.issuperset(ids.tolist()):
                yield SparseRow(np.empty(0, np.int32), np.empty(0, np.float32))
                continue
            logits = self._logits(ids)  # [L, V]
            if self.pooling == "max":
                weights = self._activate(logits.max(axis=0))  # [V]
            else:
                weights = self._activate(logits).sum(axis=0)
            if self._side.lexical:
                present = np.zeros(len(weights), bool)
                present[ids] = True
                weights = np.where(present, weights, np.float32(0))
            active = np.flatnonzero(weights)  # [n]
            yield SparseRow(
                active.astype(np.int32),
                weights[active],
                logits[:, active].argmax(axis=0).astype(np.int32) if with_sources else None,
                bool(encoding.overflowing),
            )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token. See `TextEncoder.token_spans`."""
        return list(self._tokenizer.encode(text).offsets)

    def _activate(self, logits: Array) -> Array:
        once: Array = np.log1p(np.maximum(logits, 0))
        return np.log1p(once) if self._side.activation == "log1p_relu" else once

    def _logits(self, ids: NDArray[np.int64]) -> Array:
        """Compute what the weights are made of, [L, V]."""
        return self._hidden(ids) @ self._decoder.T + self._bias

    def _hidden(self, ids: NDArray[np.int64]) -> Array:
        """Compute the transformed hidden states [L, d], which the decoder multiplies."""
        names, table = self._names, self._weights
        positions = np.arange(len(ids)) + self._first_position
        x: Array = table[f"{names.embeddings}.word_embeddings.weight"][ids]  # [L, d]
        x = x + table[f"{names.embeddings}.position_embeddings.weight"][positions]
        types = table.get(f"{names.embeddings}.token_type_embeddings.weight")
        if types is not None:
            x = x + types[0]
        x = self._norm(x, names.embeddings_norm)
        for layer in range(self._layers):
            x = self._layer(x, layer)
        return self._norm(
            self._head_activation(self._linear(x, names.transform)), names.transform_norm
        )

    def _layer(self, x: Array, n: int) -> Array:
        """Map [L, d] to [L, d] by the encoder layer n."""
        names = self._names

        def heads(name: str) -> Array:  # [heads, L, d / heads]
            out = self._linear(x, name.format(n))
            return out.reshape(len(x), self._heads, -1).transpose(1, 0, 2)

        query, key, value = heads(names.query), heads(names.key), heads(names.value)
        scores = query @ key.transpose(0, 2, 1) / np.float32(query.shape[2] ** 0.5)  # [heads, L, L]
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        scores /= scores.sum(axis=2, keepdims=True)
        seen = (scores @ value).transpose(1, 0, 2).reshape(x.shape)  # [L, d]
        x = self._norm(
            x + self._linear(seen, names.attention_out.format(n)), names.attention_norm.format(n)
        )
        inner = self._activation(self._linear(x, names.inner.format(n)))
        return self._norm(
            x + self._linear(inner, names.outer.format(n)), names.outer_norm.format(n)
        )

    def _linear(self, x: Array, name: str) -> Array:
        out: Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return out

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(self._epsilon))
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        out: Array = centred / deviation * weight + bias
        return out
