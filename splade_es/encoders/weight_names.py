"""Names of the weights in the files of BERT, RoBERTa and DistilBERT, for the encoder in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class WeightNames(NamedTuple):
    """Names of the weights of a family of models.

    Each name stands for a `.weight` and a `.bias`; {} is the number of the layer.
    """

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
    decoder: str  # its weight alone; where the file has none it is that of the embeddings
    bias: tuple[str, ...]  # of the decoder: one of these names
    # names in the configuration
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    activation: str = "hidden_act"


def _bert(base: str, head: str, transform: str, norm: str) -> WeightNames:
    layer = f"{base}.encoder.layer.{{}}"
    return WeightNames(
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


BERT = _bert("bert", "cls.predictions", "transform.dense", "transform.LayerNorm")
ROBERTA = _bert("roberta", "lm_head", "dense", "layer_norm")
DISTILBERT = WeightNames(
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
#: `model_type` of a configuration -> names.
WEIGHT_NAMES: Mapping[str, WeightNames] = {
    "bert": BERT,
    "distilbert": DISTILBERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
}
