"""The model that a run starts from: its two sides, ready to train."""

from __future__ import annotations

import json
import math
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

# Texts a fresh head is calibrated on, and documents whose tokens are counted for an IDF.
_CALIBRATION = 64
_COUNTED = 100_000


def start(config: TrainConfig, examples: Examples) -> EncoderPair:
    """What `config.kind` asks for, loaded and calibrated. Raises ModelError, TrainingError."""
    texts = [examples[i].positives[0] for i in range(min(_CALIBRATION, len(examples)))]
    documents = _encoder(config, config.model, config.doc_length, texts)
    queries: SpladeModel | QueryTable = documents
    if config.kind == "separate":
        name = config.query_model or config.model
        queries = _encoder(config, name, config.query_length, texts, "query")
        if queries.vocabulary != documents.vocabulary:
            raise TrainingError(
                f"{config.query_model} and {config.model} have different vocabularies",
                "Choose two models with the same tokenizer.",
            )
    elif config.kind in ("doc", "idf") and not documents.tokenizer.is_fast:
        raise TrainingError(
            f"kind {config.kind} reads queries by a tokenizer.json, and {config.model} has none",
            "Choose the kind splade or separate, or a model with a fast tokenizer.",
        )
    elif config.kind == "doc":
        queries = QueryTable(torch.ones(len(documents.silent)), documents.silent)
    elif config.kind == "idf":
        trained = read_sides(config.model).query
        if config.idf:
            weight = _read_idf(config.idf, documents)
        elif trained.table:  # go on with that of the model
            weight = torch.zeros(len(documents.silent))
            table = load_file(Path(trained.path, "model.safetensors"))["weight"]
            weight[: len(table)] = table
        else:
            weight = _count_idf(corpus_texts(config, examples, _COUNTED), documents)
        queries = QueryTable(weight, documents.silent, learn=config.learn_idf)
    documents.lexical = config.kind == "lexical"
    if config.freeze_documents:
        documents.requires_grad_(False)
    model = EncoderPair(documents, queries)
    if config.embedding_lr == 0:
        for encoder in model.encoders:
            encoder.mlm.get_input_embeddings().requires_grad_(False)
    return model


def corpus_texts(config: TrainConfig, examples: Examples, count: int) -> list[str]:
    """The first `count` documents of the corpus, or else positives of the training data."""
    if config.corpus:
        items = read_documents(config.corpus)
        return [item.body for item in islice(items, count) if isinstance(item, Document)]
    return [examples[i].positives[0] for i in range(min(count, len(examples)))]


def _encoder(
    config: TrainConfig,
    name: str,
    length: int,
    texts: list[str],
    side: Literal["document", "query"] = "document",
) -> SpladeModel:
    # where one encoder does both, it must have positions for either
    shared = config.kind in ("splade", "lexical")
    longest = max(config.query_length, config.doc_length) if shared else length
    model = SpladeModel.load(name, longest, side)
    model.max_length = length
    model.pooling = config.pooling or model.pooling
    model.activation = config.activation or model.activation
    model.silence_special_tokens()
    calibrate(model, texts)
    return model


def _read_idf(path: str, model: SpladeModel) -> Tensor:
    """[V] from a file {"token": weight}; tokens it does not name weigh nothing."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        weights = {str(token): float(weight) for token, weight in table.items()}
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}", "Check the path of --idf.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path}: no weights of tokens in it ({error})", 'Write {"token": 1.5, ...}.'
        ) from error
    ids = {token: id for id, token in enumerate(model.vocabulary)}
    known = {ids[token]: weight for token, weight in weights.items() if token in ids}
    if not known or not all(math.isfinite(weight) for weight in known.values()):
        raise TrainingError(
            f"{path}: {'weights that are no numbers' if known else 'no token of the model'}",
            f"Use an IDF made for the tokens of {model.name}.",
        )
    table = torch.zeros(len(model.silent))
    table[list(known)] = torch.tensor(list(known.values()))
    return table


def _count_idf(texts: Iterable[str], model: SpladeModel) -> Tensor:
    """[V]: log(1 + (N - df + 0.5) / (df + 0.5)), as in BM25; df of the N texts have a token."""
    counts: Counter[int] = Counter()
    count = 0
    for text in texts:
        counts.update(set(model.tokenizer(text, truncation=True, max_length=512)["input_ids"]))
        count += 1
    df = torch.zeros(len(model.silent))
    df[list(counts)] = torch.tensor([float(n) for n in counts.values()])
    return torch.log(1 + (count - df + 0.5) / (df + 0.5))
