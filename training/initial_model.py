"""The model that a run starts from: both of its sides, ready to train."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from splade_es.data.corpus import read_documents
from splade_es.errors import TrainingError
from splade_es.models.files import read_sides
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable
from splade_es.records import Document
from splade_es.training.calibrate import calibrate
from splade_es.training.config import TrainConfig
from splade_es.training.data import Examples
from splade_es.training.settings import StrPath

# Texts to calibrate an untrained head with, and documents to count an IDF in.
_CALIBRATION_TEXTS = 64
_IDF_DOCUMENTS = 100_000


def load_initial_model(config: TrainConfig, examples: Examples) -> EncoderPair:
    """Load the model that `kind` and the other settings describe, and calibrate it.

    Raises ModelError and TrainingError.
    """
    texts = [examples[i].positives[0] for i in range(min(_CALIBRATION_TEXTS, len(examples)))]
    documents = _load_encoder(config, config.model, config.doc.length, texts)
    queries: SpladeModel | QueryTable = documents
    if config.kind == "separate":
        name = config.query_model or config.model
        queries = _load_encoder(config, name, config.query.length, texts, "query")
        if queries.vocabulary != documents.vocabulary:
            raise TrainingError(
                f"{config.query_model} and {config.model} have different vocabularies",
                "Choose two models with the same tokenizer.",
            )
    elif config.kind in ("doc", "idf") and not documents.tokenizer.is_fast:
        raise TrainingError(
            f"The kind {config.kind} reads queries by a tokenizer.json, but {config.model} has "
            "none",
            "Set `kind` to splade or separate, or choose a model with a fast tokenizer.",
        )
    elif config.kind == "doc":
        queries = QueryTable(torch.ones(len(documents.suppressed)), documents.suppressed)
    elif config.kind == "idf":
        weight = _idf(config, documents, examples)  # [V]
        queries = QueryTable(weight, documents.suppressed, learn=config.learn_idf)
    documents.lexical = config.kind == "lexical"
    if config.freeze_documents:
        documents.requires_grad_(False)
    model = EncoderPair(documents, queries)
    if config.embedding_lr == 0:
        for encoder in model.encoders:
            encoder.mlm.get_input_embeddings().requires_grad_(False)
    return model


def corpus_texts(config: TrainConfig, examples: Examples, count: int) -> list[str]:
    """The first `count` documents of the corpus; without one, positives of the training data."""
    if config.corpus:
        items = read_documents(os.fspath(config.corpus))
        return [item.body for item in islice(items, count) if isinstance(item, Document)]
    return [examples[i].positives[0] for i in range(min(count, len(examples)))]


def _load_encoder(
    config: TrainConfig,
    name: StrPath,
    length: int,
    texts: list[str],
    side: Literal["document", "query"] = "document",
) -> SpladeModel:
    # one encoder for both sides must have positions for the longer one
    shared = config.kind in ("splade", "lexical")
    longest = max(config.query.length, config.doc.length) if shared else length
    model = SpladeModel.load(name, longest, side)
    model.max_length = length
    model.pooling = config.pooling or model.pooling
    model.activation = config.activation or model.activation
    model.suppress_special_tokens()
    calibrate(model, texts)
    return model


def _idf(config: TrainConfig, model: SpladeModel, examples: Examples) -> Tensor:
    """The weights of the query table, [V]: from a file, from the model, or counted."""
    if config.idf:
        return _read_idf(config.idf, model)
    queries = read_sides(os.fspath(config.model)).query
    if queries.table:
        weight = torch.zeros(len(model.suppressed))
        table = load_file(Path(queries.path, "model.safetensors"))["weight"]
        weight[: len(table)] = table  # the decoder may have more rows
        return weight
    return _count_idf(corpus_texts(config, examples, _IDF_DOCUMENTS), model)


def _read_idf(path: StrPath, model: SpladeModel) -> Tensor:
    """[V], from a file {"token": weight}; tokens that it does not name have weight 0."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        weights = {str(token): float(weight) for token, weight in table.items()}
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}", "Check `idf`.") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise TrainingError(
            f"{path}: there are no weights of tokens in it ({error})",
            'Write {"token": 1.5, ...}.',
        ) from error
    ids = {token: id for id, token in enumerate(model.vocabulary)}
    known = {ids[token]: weight for token, weight in weights.items() if token in ids}
    if not known or not all(math.isfinite(weight) for weight in known.values()):
        raise TrainingError(
            f"{path}: "
            + ("some weights are not finite" if known else "there is no token of the model in it"),
            f"Use an IDF that was made for the tokens of {model.name}.",
        )
    table = torch.zeros(len(model.suppressed))
    table[list(known)] = torch.tensor(list(known.values()))
    return table


def _count_idf(texts: Iterable[str], model: SpladeModel) -> Tensor:
    """[V]: log(1 + (N - df + 0.5) / (df + 0.5)), as in BM25, where df of N texts have a token."""
    counts: Counter[int] = Counter()
    count = 0
    for text in texts:
        counts.update(set(model.tokenizer(text, truncation=True, max_length=512)["input_ids"]))
        count += 1
    df = torch.zeros(len(model.suppressed))
    df[list(counts)] = torch.tensor([float(n) for n in counts.values()])
    return torch.log(1 + (count - df + 0.5) / (df + 0.5))
