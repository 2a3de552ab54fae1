"""Document frequencies for the regularizer df_flops: how many documents have each token."""

from __future__ import annotations

import torch
from torch import Tensor

from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.base import EngineIndex
from splade_es.features import feature_names
from splade_es.models.model import SpladeModel


@torch.no_grad()
def shares_of_texts(model: SpladeModel, texts: list[str], device: torch.device) -> Tensor:
    """The share of the texts in which each token is active, [V]. The model keeps its mode."""
    training = model.training
    counts = torch.zeros(len(model.decoder.weight), device=device)
    try:
        for row in Encoder(model, device).encode(texts):
            counts[torch.from_numpy(row.ids).to(device, torch.long)] += 1
    finally:
        model.train(training)
    return counts / max(1, len(texts))


def shares_of_index(index: EngineIndex, vocabulary: list[str]) -> Tensor:
    """The share of the documents of an index that have each token, [vocabulary]."""
    counts = index.document_frequencies(feature_names(vocabulary))
    return torch.tensor(counts, dtype=torch.float32) / max(1, index.count())
