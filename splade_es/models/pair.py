"""A whole model, both of its sides, as training needs it and as it is saved.

kind       queries                                  documents
splade     the same encoder                         encoder
separate   an encoder of their own                  encoder
doc        their own tokens, each with weight 1     encoder        (SPLADE-doc, 2109.10086)
idf        their own tokens, weighted by a table    encoder        (inference-free, 2411.04403)
lexical    the same encoder, without expansion      encoder without expansion
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from splade_es.models import files as model_files
from splade_es.models.head import presence
from splade_es.models.model import SpladeModel

_PACKAGE = "sentence_transformers.sparse_encoder.models"


class QueryTable(nn.Module):
    """One weight for each token of the vocabulary: a query is its own tokens, weighted by it.

    weight: [V]; trainable if `learn`. Special tokens weigh nothing.
    """

    def __init__(self, weight: Tensor, silent: Tensor, learn: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.masked_fill(silent, 0.0), requires_grad=learn)
        self.register_buffer("silent", silent.clone(), persistent=False)
        self.silent: Tensor

    def forward(self, **inputs: Tensor) -> Tensor:
        """float32 [B, V] of tokenizer output (input_ids, attention_mask, ...); never below 0."""
        present = presence(inputs["input_ids"], inputs["attention_mask"], len(self.weight))
        return present * torch.relu(self.weight).masked_fill(self.silent, 0.0)


class EncoderPair(nn.Module):
    """documents and queries: what encodes either; one and the same module where one does both."""

    def __init__(self, documents: SpladeModel, queries: SpladeModel | QueryTable) -> None:
        super().__init__()
        self.documents = documents
        self.queries = queries

    @property
    def encoders(self) -> list[SpladeModel]:
        """One or two: one that does both is there once."""
        sides = dict.fromkeys((self.queries, self.documents))
        return [side for side in sides if isinstance(side, SpladeModel)]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write a directory that `SpladeModel.load`, transformers and sentence-transformers load.

        Each file is written beside its place and then renamed, the weights of documents last: a
        directory with weights in it is a whole model.
        """
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part", dir=target) as folder:
            part = Path(folder)
            self.documents.save(part)
            if self.queries is self.documents:
                _write_one_encoder(part, self.documents)
            else:
                _write_router(part, self)
            files = [path for path in part.rglob("*") if path.is_file()]
            # those at the top come last, and of them the weights
            files.sort(key=lambda path: (-len(path.parts), path.suffix == ".safetensors"))
            for path in files:
                path.chmod(0o644)  # safetensors are written for their owner alone
                place = target / path.relative_to(part)
                place.parent.mkdir(exist_ok=True)
                path.replace(place)


def _write_one_encoder(part: Path, model: SpladeModel) -> None:
    modules = [("", "MLMTransformer"), (model_files.POOLING, "SpladePooling")]
    _write_pooling(part / model_files.POOLING, model)
    if model.lexical:
        modules.append((model_files.LEXICAL, "SparseStaticEmbedding"))
        ones = QueryTable(torch.ones(len(model.tokenizer)), model.silent[: len(model.tokenizer)])
        _write_table(part / model_files.LEXICAL, ones, model)
    _write_modules(part, modules)


def _write_router(part: Path, retriever: EncoderPair) -> None:
    """The document encoder lies at the top, so that what loads one encoder finds this one."""
    documents, queries = retriever.documents, retriever.queries
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
    """A table has a row for each token the tokenizer knows; the decoder may have more."""
    model.tokenizer.save_pretrained(folder)
    weight = torch.relu(table.weight.detach()).masked_fill(table.silent, 0.0)
    save_file(
        {"weight": weight[: len(model.tokenizer)].contiguous().cpu()}, folder / "model.safetensors"
    )
    _write_json(folder / "config.json", {"frozen": not table.weight.requires_grad})


def _write_pooling(folder: Path, model: SpladeModel) -> None:
    folder.mkdir()
    config = {"pooling_strategy": model.pooling, "activation_function": model.activation}
    _write_json(folder / "config.json", config)


def _write_modules(part: Path, modules: list[tuple[str, str]]) -> None:
    """modules: (folder, class) of each step from text to vector."""
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
