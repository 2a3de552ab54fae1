"""A dev set: how well the model of a step retrieves."""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.typing import NDArray

from splade_es.data.corpus import read_documents
from splade_es.data.trec_beir import open_beir
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError
from splade_es.models.pair import EncoderPair
from splade_es.records import Document, Run
from splade_es.search.evaluate import evaluate, parse_measures

MEASURES = "nDCG@10 RR@10"
#: The measure that decides which model is the best.
BEST_BY = "nDCG@10"
# Queries that are encoded at once.
_QUERIES = 64


class DevSet:
    """Queries, judgements and documents of a BEIR folder, in memory.

    All documents with a judgement are searched, and `others` more, drawn with a fixed seed: to
    encode the whole corpus again and again would take longer than the training. So the measures are
    higher than those on the whole corpus, and only good for comparing checkpoints.
    """

    def __init__(self, directory: str, split: str, others: int) -> None:
        self.queries, self.qrels = open_beir(directory, split)
        self.measures = parse_measures(MEASURES)
        judged = {id for grades in self.qrels.values() for id in grades}
        kept: list[Document] = []
        pool: list[Document] = []
        draw = random.Random(0)
        seen = 0
        for item in read_documents(directory):
            if not isinstance(item, Document):
                continue
            if item.id in judged:
                kept.append(item)
                continue
            seen += 1  # reservoir sampling: each other document has the same chance
            if len(pool) < others:
                pool.append(item)
            elif (place := draw.randrange(seen)) < others:
                pool[place] = item
        self.documents = kept + pool
        if not self.documents:
            raise CorpusError(f"{directory}: there are no documents in it", "Check corpus.jsonl.")

    def measure(self, model: EncoderPair) -> dict[str, float]:
        """The mean of each measure over the queries. The model keeps its mode."""
        training = model.documents.training
        try:
            queries = self._queries(model)  # [V, Q]
            encoder = Encoder(model.documents, model.documents.decoder.weight.device)
            scores: NDArray[np.float32] = np.stack(
                [
                    row.weights @ queries[row.ids]
                    for row in encoder.encode(document.body for document in self.documents)
                ]
            )  # [D, Q]
        finally:
            model.documents.train(training)
        best = torch.from_numpy(scores).topk(min(10, len(scores)), dim=0)  # [10, Q]
        run: Run = {
            query.id: {
                self.documents[i].id: score
                # worst first: of two documents with the same id the better one counts
                for i, score in zip(
                    best.indices[:, q].tolist()[::-1], best.values[:, q].tolist()[::-1], strict=True
                )
                if score > 0
            }
            for q, query in enumerate(self.queries)
        }
        return dict(evaluate(run, self.qrels, self.measures).means)

    @torch.no_grad()
    def _queries(self, model: EncoderPair) -> NDArray[np.float32]:
        """The vectors of the queries as columns, float32 [V, Q]."""
        training = model.queries.training
        model.queries.eval()
        tokenizer, device = model.documents.tokenizer, model.documents.decoder.weight.device
        parts = []
        try:
            for start in range(0, len(self.queries), _QUERIES):
                texts = [query.text for query in self.queries[start : start + _QUERIES]]
                inputs = tokenizer(
                    texts,
                    truncation=True,
                    max_length=model.documents.max_length,
                    padding=True,
                    return_tensors="pt",
                )
                parts.append(model.queries(**inputs.to(device)).T.float().cpu().numpy())  # [V, b]
        finally:
            model.queries.train(training)
        return np.concatenate(parts, axis=1)
