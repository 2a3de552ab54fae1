"""Both sides of a model, the query encoder and the document encoder, as they train and are saved.

kind       queries                                  documents
splade     the same encoder                         encoder
separate   a second encoder                         encoder
doc        their own tokens, each with weight 1     encoder        (SPLADE-doc, 2109.10086)
idf        their own tokens, weighted by a table    encoder        (inference-free, 2411.04403)
lexical    the same encoder, without expansion      encoder without expansion
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from splade_es.data.files import replacing_files
from splade_es.models import files as model_files
from splade_es.models.head import multi_hot
from splade_es.models.model import SpladeModel

_PACKAGE = "sentence_transformers.sparse_encoder.models"


class QueryTable(nn.Module):
    """A weight for each token of the vocabulary. A query is its own tokens with these weights.

    Parameters
    ----------
    weight : Tensor [V]
        The weights.
    suppressed : Tensor [V]
        bool: tokens whose weight is 0, see `SpladeModel`.
    learn : bool
        Whether the weights are trained.
    """

    def __init__(self, weight: Tensor, suppressed: Tensor, learn: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.masked_fill(suppressed, 0.0), requires_grad=learn)
        self.register_buffer("suppressed", suppressed.clone(), persistent=False)
        self.suppressed: Tensor

    def forward(self, **inputs: Tensor) -> Tensor:
        """Compute weights, float32 [B, V], >= 0, of tokenizer output (input_ids, ...)."""
        present = multi_hot(inputs["input_ids"], inputs["attention_mask"], len(self.weight))
        return present * torch.relu(self.weight).masked_fill(self.suppressed, 0.0)  # [B, V]


class EncoderPair(nn.Module):
    """The two encoders of a model.

    Attributes
    ----------
    documents : SpladeModel
        Encodes documents.
    queries : SpladeModel or QueryTable
        Encodes queries; the same module as `documents` where one encoder does both.
    """

    def __init__(self, documents: SpladeModel, queries: SpladeModel | QueryTable) -> None:
        super().__init__()
        self.documents = documents
        self.queries = queries

    @property
    def encoders(self) -> list[SpladeModel]:
        """The masked language models of the pair: one or two, each once."""
        sides = dict.fromkeys((self.queries, self.documents))
        return [side for side in sides if isinstance(side, SpladeModel)]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write a directory that `SpladeModel.load`, transformers and sentence-transformers load.

        The weights of the document encoder come last: a directory that has them is complete.
        """
        with replacing_files(directory, last=".safetensors") as part:
            self.documents.save(part)
            if self.queries is self.documents:
                _write_one_encoder(part, self.documents)
            else:
                _write_router(part, self)


def _write_one_encoder(part: Path, model: SpladeModel) -> None:
    modules = [("", "MLMTransformer"), (model_files.POOLING, "SpladePooling")]
    _write_pooling(part / model_files.POOLING, model)
    if model.lexical:
        modules.append((model_files.LEXICAL, "SparseStaticEmbedding"))
        size = len(model.tokenizer)
        ones = QueryTable(torch.ones(size), model.suppressed[:size])
        _write_table(part / model_files.LEXICAL, ones, model)
    _write_modules(part, modules)


def _write_router(part: Path, pair: EncoderPair) -> None:
    """Write a Router. The document encoder is at the top, where loaders of one encoder look."""
    documents, queries = pair.documents, pair.queries
    steps = {"": "MLMTransformer", model_files.DOCUMENT_POOLING: "SpladePooling"}
    _write_pooling(part / model_files.DOCUMENT_POOLING, documents)
    if isinstance(queries, QueryTable):
        routes = [model_files.QUERY_TABLE]
        steps[model_files.QUERY_TABLE] = "SparseStaticEmbedding"
        _write_table(part / model_files.QUERY_TABLE, queries, documents)
    else:
        routes = [model_files.QUERY_ENCODER, model_files.QUERY_POOLING]
        steps |= dict(zip(routes, ("MLMTransformer", "SpladePooling"), strict=True))
        queries.save(part / model_files.QUERY_ENCODER)
        _write_pooling(part / model_files.QUERY_POOLING, queries)
    _write_modules(part, [("", "Router")])
    router = {
        "types": {id: f"{_PACKAGE}.{kind}" for id, kind in steps.items()},
        "structure": {"query": routes, "document": ["", model_files.DOCUMENT_POOLING]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    _write_json(part / model_files.ROUTER, router)


def _write_table(folder: Path, table: QueryTable, model: SpladeModel) -> None:
    """Write a table of one row for each token of the tokenizer; the decoder may have more rows."""
    model.tokenizer.save_pretrained(folder)
    weight = torch.relu(table.weight.detach()).masked_fill(table.suppressed, 0.0)
    save_file(
        {"weight": weight[: len(model.tokenizer)].contiguous().cpu()}, folder / "model.safetensors"
    )
    _write_json(folder / "config.json", {"frozen": not table.weight.requires_grad})


def _write_pooling(folder: Path, model: SpladeModel) -> None:
    folder.mkdir()
    config = {"pooling_strategy": model.pooling, "activation_function": model.activation}
    _write_json(folder / "config.json", config)


def _write_modules(part: Path, modules: list[tuple[str, str]]) -> None:
    """Write modules.json: (folder, class) of each step from text to vector."""
    _write_json(
        part / model_files.MODULES,
        [
            {"idx": n, "name": str(n), "path": path, "type": f"{_PACKAGE}.{kind}"}
            for n, (path, kind) in enumerate(modules)
        ],
    )
    config = {
        "model_type": "SparseEncoder",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "dot",
    }
    _write_json(part / "config_sentence_transformers.json", config)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
