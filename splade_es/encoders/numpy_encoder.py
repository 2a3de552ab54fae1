"""Encoding a text in numpy, for a search that is over before torch and transformers are imported.

BERT (1810.04805), RoBERTa (1907.11692) and DistilBERT (1910.01108) under the SPLADE head, in
float32, one text at a time: most public SPLADE models, and what is trained from such a backbone.
For any other `NumpyEncoder.load` gives None, and `Encoder` is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from splade_es.encoders.base import TextEncoder
from splade_es.encoders.tokenizer import load_tokenizer
from splade_es.models.files import Side
from splade_es.records import SparseRow

_Array: TypeAlias = NDArray[np.float32]

#: What a logit becomes that no feature may be made of; as in `model.SILENT`.
_SILENT = np.float32(-1e4)


class _Names(NamedTuple):
    """Where a family of models keeps its weights, below `.weight` and `.bias`; {} is the layer."""

    embeddings: str
    embeddings_norm: str
    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    inner: str
    outer: str
    outer_norm: str
    transform: str
    transform_norm: str
    decoder: str  # of its weight; tied to the embeddings where the file has none
    bias: tuple[str, ...]  # of the decoder, by one name or the other
    heads: str = "num_attention_heads"  # of the configuration, as are the following
    layers: str = "num_hidden_layers"
    activation: str = "hidden_act"


def _bert(base: str, head: str, transform: str, norm: str) -> _Names:
    layer = f"{base}.encoder.layer.{{}}"
    return _Names(
        f"{base}.embeddings",
        f"{base}.embeddings.LayerNorm",
        f"{layer}.attention.self.query",
        f"{layer}.attention.self.key",
        f"{layer}.attention.self.value",
        f"{layer}.attention.output.dense",
        f"{layer}.attention.output.LayerNorm",
        f"{layer}.intermediate.dense",
        f"{layer}.output.dense",
        f"{layer}.output.LayerNorm",
        f"{head}.{transform}",
        f"{head}.{norm}",
        f"{head}.decoder.weight",
        (f"{head}.decoder.bias", f"{head}.bias"),
    )


_BERT = _bert("bert", "cls.predictions", "transform.dense", "transform.LayerNorm")
_ROBERTA = _bert("roberta", "lm_head", "dense", "layer_norm")
_DISTILBERT = _Names(
    "distilbert.embeddings",
    "distilbert.embeddings.LayerNorm",
    "distilbert.transformer.layer.{}.attention.q_lin",
    "distilbert.transformer.layer.{}.attention.k_lin",
    "distilbert.transformer.layer.{}.attention.v_lin",
    "distilbert.transformer.layer.{}.attention.out_lin",
    "distilbert.transformer.layer.{}.sa_layer_norm",
    "distilbert.transformer.layer.{}.ffn.lin1",
    "distilbert.transformer.layer.{}.ffn.lin2",
    "distilbert.transformer.layer.{}.output_layer_norm",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector.weight",
    ("vocab_projector.bias",),
    "n_heads",
    "n_layers",
    "activation",
)
_FAMILIES = {
    "bert": _BERT,
    "distilbert": _DISTILBERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
}


class NumpyEncoder(TextEncoder):
    """A TextEncoder in numpy. Raises for a model it does not know; `load` does not.

    name: of the whole model; side: the encoder of it; folder: where that lies.
    """

    def __init__(self, name: str, side: Side, folder: Path, max_length: int) -> None:
        from safetensors import safe_open

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
        self._names = names = _FAMILIES[kind]
        absolute = config.get("position_embedding_type", "absolute") == "absolute"
        if not absolute or config.get("sinusoidal_pos_embds"):
            raise ValueError("positions of another kind")
        self.name = os.path.abspath(name) if os.path.isdir(name) else name
        self.max_length = max_length
        self.pooling = side.pooling
        self._side = side
        self._layers, self._heads = int(config[names.layers]), int(config[names.heads])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = _ACTIVATIONS[config[names.activation]]
        self._head_activation = self._activation
        self._first_position = 0
        if names is _ROBERTA:  # its head has a GELU whatever the layers have, and its positions
            self._head_activation = _gelu  # begin after the padding id
            self._first_position = config["pad_token_id"] + 1

        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            self._weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if {str(tensor.dtype) for tensor in self._weights.values()} - {"float32", "int64"}:
            raise ValueError("weights of another precision")
        embeddings = self._weights[f"{names.embeddings}.word_embeddings.weight"]
        self._decoder: _Array = self._weights.get(names.decoder, embeddings)  # [V, d]
        bias = next(name for name in names.bias if name in self._weights)

        self._tokenizer = load_tokenizer(folder, max_length)
        size = self._tokenizer.get_vocab_size()
        tokens = [self._tokenizer.id_to_token(id) for id in range(size)]
        if size > len(self._decoder) or None in tokens:
            raise ValueError("a tokenizer of another model")
        self.vocabulary = [str(token) for token in tokens]
        if not _as_transformers_builds_it(folder, kind, self._tokenizer):
            raise ValueError("transformers would tokenise in another way")
        self._special = _special_ids(folder, self._tokenizer)
        self._bias: _Array = self._weights[bias].copy()  # [V]
        self._bias[sorted(self._special)] = _SILENT
        self._bias[size:] = _SILENT

    @classmethod
    def load(cls, name: str, side: Side, max_length: int) -> NumpyEncoder | None:
        """The encoder of one side of the model `name`, or None where torch is needed for it."""
        folder = Path(side.path)
        try:
            if not folder.is_dir():
                from huggingface_hub import hf_hub_download

                folder = Path(hf_hub_download(side.path, "model.safetensors")).parent
            light = cls(name, side, folder, max_length)
            light._hidden(np.zeros(3, np.int64))  # is every weight there, by the name we know?
        except Exception:  # whatever is wrong with it, the full encoder says it better
            return None
        return light

    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """One row for each text, in order; a text without a token of its own gives an empty row."""
        for text in texts:
            ids = np.asarray(self._tokenizer.encode(text).ids, np.int64)  # [L]
            if self._special.issuperset(ids.tolist()):
                yield SparseRow(np.empty(0, np.int32), np.empty(0, np.float32))
                continue
            logits = self._hidden(ids) @ self._decoder.T + self._bias  # [L, V]
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
            )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) characters of each token of the text: what SparseRow.sources points into."""
        return list(self._tokenizer.encode(text).offsets)

    def _activate(self, logits: _Array) -> _Array:
        once: _Array = np.log1p(np.maximum(logits, 0))
        return np.log1p(once) if self._side.activation == "log1p_relu" else once

    def _hidden(self, ids: NDArray[np.int64]) -> _Array:
        """The transformed hidden states [L, d] that the decoder multiplies."""
        names, table = self._names, self._weights
        positions = np.arange(len(ids)) + self._first_position
        x: _Array = table[f"{names.embeddings}.word_embeddings.weight"][ids]  # [L, d]
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

    def _layer(self, x: _Array, n: int) -> _Array:
        """[L, d] -> [L, d]."""
        names = self._names

        def heads(name: str) -> _Array:  # [heads, L, d / heads]
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

    def _linear(self, x: _Array, name: str) -> _Array:
        out: _Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return out

    def _norm(self, x: _Array, name: str) -> _Array:
        centred = x - x.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(self._epsilon))
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        out: _Array = centred / deviation * weight + bias
        return out


def _as_transformers_builds_it(folder: Path, kind: str, tokenizer: Any) -> bool:
    """transformers 5 takes tokenizer.json as it is for its generic class only. For the tokenizers
    of BERT and RoBERTa it takes the vocabulary, and builds the rest by the configuration."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    name = config.get("tokenizer_class") or {"roberta": "RobertaTokenizer"}.get(
        kind, "BertTokenizer" if kind in ("bert", "distilbert") else ""
    )

    def state(part: Any) -> dict[str, Any]:
        return dict(json.loads(part.__getstate__())) if part is not None else {}

    normalizer, splitter = state(tokenizer.normalizer), state(tokenizer.pre_tokenizer)
    name = name.removesuffix("Fast")
    if name in ("PreTrainedTokenizer", "TokenizersBackend"):
        return True
    if name in ("BertTokenizer", "DistilBertTokenizer"):
        return splitter.get("type") == "BertPreTokenizer" and normalizer == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        }
    return (
        name == "RobertaTokenizer"
        and not normalizer
        and splitter.get("type") == "ByteLevel"
        and splitter.get("add_prefix_space") == config.get("add_prefix_space", False)
    )


def _special_ids(folder: Path, tokenizer: Any) -> frozenset[int]:
    """What transformers takes for special: flagged so, or named as one in the configuration."""
    ids = {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / file
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for key, value in config.items():
            if key.endswith("_token"):
                token = value["content"] if isinstance(value, dict) else value
                id = tokenizer.token_to_id(token) if isinstance(token, str) else None
                ids |= set() if id is None else {id}
    return frozenset(ids)


def _gelu(x: _Array) -> _Array:
    """x times the normal distribution function, by formula 7.1.26 of Abramowitz and Stegun for
    erf, whose error is below 1.5e-7."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: _Array = np.full_like(x, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series * t + np.float32(coefficient)).astype(np.float32, copy=False)
    tail = np.float32(0.5) * series * t * np.exp(-z * z)  # of the distribution, beyond |x|
    out: _Array = x * np.where(x > 0, 1 - tail, tail)
    return out


def _gelu_tanh(x: _Array) -> _Array:
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    out: _Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out


def _relu(x: _Array) -> _Array:
    return np.maximum(x, 0)


_ACTIVATIONS: Mapping[str, Callable[[_Array], _Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
}
