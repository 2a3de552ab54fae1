"""Any Hugging Face masked language model as a SPLADE encoder: loading, forward, saving.

The model is split at its output embeddings. With these replaced by an identity the model's own
`logits` are the transformed hidden states H [B, L, d], whatever the architecture. The decoder
matrix W [V, d] and its bias [V] are kept beside it for `head.splade_head`. Saving puts them back:
the result is an ordinary masked-LM directory, which `AutoModelForMaskedLM` and
sentence-transformers' `SparseEncoder` load as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from splade_es.errors import ModelError
from splade_es.models.files import Activation, Pooling, loading, read_sides
from splade_es.models.head import multi_hot, splade_head
from splade_es.models.pretrained import load_pretrained, position_limit, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Bias of suppressed tokens: no dot product of hidden state and embedding outweighs it, and float16
#: can represent it.
SUPPRESSED_BIAS = -1e4
_DEFAULT_MAX_LENGTH = 256


class _Identity(nn.Identity):
    """Takes the place of the decoder. BERT and DeBERTa read its `bias`."""

    bias = None


class SpladeModel(nn.Module):
    """A masked language model with the SPLADE head.

    Attributes
    ----------
    mlm : PreTrainedModel
        The model without its decoder.
    decoder : nn.Linear
        Its output embeddings, weight [V, d] and bias [V].
    tokenizer : PreTrainedTokenizerBase
        Of the model.
    pooling, activation : str
        See `splade_head`.
    lexical : bool
        Whether only tokens of the text itself get a weight.
    max_length : int
        Tokens of a text, special ones included.
    name : str
        Directory or hub name it was loaded from.
    fresh_head : frozenset of str
        Parameters of the prediction head that the checkpoint does not have; empty for a trained
        masked LM.
    suppressed : Tensor [V]
        bool: vocabulary ids that never become a feature. Special tokens say nothing about a text,
        and rows past the tokenizer's vocabulary (padding to a round number) have no token.
    """

    def __init__(
        self,
        mlm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: Pooling = "max",
        activation: Activation = "relu",
        lexical: bool = False,
        max_length: int = _DEFAULT_MAX_LENGTH,
        name: str = "",
        fresh_head: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        decoder = mlm.get_output_embeddings()
        if not isinstance(decoder, nn.Linear):
            raise ModelError(
                f"{name}: the model has no output embeddings", "Use a masked language model."
            )
        self.decoder = decoder
        if len(tokenizer) > len(decoder.weight):
            raise ModelError(
                f"{name}: the tokenizer has {len(tokenizer):,} tokens, the model only "
                f"{len(decoder.weight):,}",
                "Use a model with the tokenizer it was trained with.",
            )
        if self.decoder.bias is None:  # the saved model cannot have one either: not trained
            zeros = torch.zeros(len(decoder.weight))
            self.decoder.bias = nn.Parameter(zeros, requires_grad=False)
        mlm.set_output_embeddings(_Identity())
        self.mlm = mlm
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.activation = activation
        self.lexical = lexical
        self.max_length = max_length
        self.name = name
        self.fresh_head = fresh_head
        suppressed = torch.zeros(len(decoder.weight), dtype=torch.bool)  # [V]
        suppressed[tokenizer.all_special_ids] = True
        suppressed[len(tokenizer) :] = True
        self.register_buffer("suppressed", suppressed, persistent=False)
        self.suppressed: Tensor

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        max_length: int | None = None,
        side: Literal["document", "query"] = "document",
    ) -> SpladeModel:
        """Load a model from a directory, or from the Hugging Face hub by its name.

        Pooling and activation come from the sentence-transformers files of the model. Without
        these they are max and relu.

        Parameters
        ----------
        name : str or path
            Directory or hub name.
        max_length : int, optional
            Tokens of a text, from 3 to the number of positions of the model. By default what the
            tokenizer says if that is below 512, otherwise 256.
        side : {"document", "query"}
            Which encoder, where a model has two.

        Raises
        ------
        ModelError
            The model does not exist, is not a masked language model, or cannot be loaded.
        """
        name = os.fspath(name)
        sides = read_sides(name)
        part = sides.query if side == "query" else sides.document
        if part.table:
            raise ModelError(
                f"{name}: its {side} side is a table of weights, not an encoder",
                "A table can only encode queries; to train, start from an encoder.",
            )
        with loading(name):
            mlm, tokenizer, missing = load_pretrained(part.path)
            limit = position_limit(mlm)
            # below 512 it was set on purpose: the model was trained with that many tokens
            trained = tokenizer.model_max_length
            usual = min(limit, trained if trained < 512 else _DEFAULT_MAX_LENGTH)
            length = usual if max_length is None else max_length
            if not 3 <= length <= limit:
                raise ModelError(
                    f"max_length must be from 3 to {limit} for {name}, not {length}",
                    "Choose another length.",
                )
            model = cls(
                mlm,
                tokenizer,
                pooling=part.pooling,
                activation=part.activation,
                lexical=part.lexical,
                max_length=length,
                name=name,
                fresh_head=missing,
            )
            model._check_split()
        return model

    @torch.no_grad()
    def _check_split(self) -> None:
        """Raise ModelError if logits without the decoder are not hidden states, as in BART."""
        try:
            hidden = self.hidden(**self.tokenizer(["a ☃"], return_tensors="pt"))  # [1, L, d]
            if hidden.shape[2] != self.decoder.in_features:
                raise ValueError(f"hidden states {list(hidden.shape)}")
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"{self.name}: a {self.mlm.config.model_type} model does more to its logits than "
                "multiply by its output embeddings",
                "Use an encoder like BERT, DistilBERT, RoBERTa or ModernBERT.",
            ) from error

    @property
    def bias(self) -> Tensor:
        """The decoder's bias [V], SUPPRESSED_BIAS for tokens that never become a feature."""
        return self.decoder.bias.masked_fill(self.suppressed, SUPPRESSED_BIAS)

    def hidden(self, **inputs: Tensor) -> Tensor:
        """Compute the transformed hidden states H [B, L, d] of tokenizer output [B, L]."""
        return cast(Tensor, self.mlm(**inputs).logits)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Compute weights, float32 [B, V], of tokenizer output (input_ids, attention_mask, ...)."""
        return self.weights(self.hidden(**inputs), inputs)

    def weights(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute weights, float32 [B, V], of hidden states [B, L, d] and tokenizer output."""
        kind = hidden.device.type
        if torch.is_autocast_enabled(kind):  # on a GPU the LayerNorm before it returns float32
            hidden = hidden.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):  # the head chooses its own dtypes
            mask = inputs["attention_mask"]
            weights = splade_head(
                hidden, mask, self.decoder.weight, self.bias, self.pooling, self.activation
            )
            if self.lexical:
                weights = weights * multi_hot(inputs["input_ids"], mask, weights.shape[1])
            return weights

    @torch.no_grad()
    def suppress_special_tokens(self) -> None:
        """Write into the bias what `forward` enforces, so that other loaders agree."""
        self.decoder.bias.masked_fill_(self.suppressed, SUPPRESSED_BIAS)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the files of a masked language model, as transformers loads them.

        `EncoderPair.save` adds the files from which sentence-transformers, and `load`, know pooling
        and activation.
        """
        self.suppress_special_tokens()
        self.tokenizer.model_max_length = self.max_length
        self.mlm.set_output_embeddings(self.decoder)
        try:
            with quiet_transformers():
                self.mlm.save_pretrained(directory)
        finally:
            self.mlm.set_output_embeddings(_Identity())
        self.tokenizer.save_pretrained(directory)

    @property
    def vocabulary(self) -> list[str]:
        """The token of each vocabulary id; rows of the decoder without a token are left out.

        Raises ModelError for an id below the last one that has no token.
        """
        ids = list(range(len(self.tokenizer)))
        tokens = cast("list[str | None]", self.tokenizer.convert_ids_to_tokens(ids))
        if None in tokens:
            raise ModelError(
                f"{self.name}: id {tokens.index(None)} of the tokenizer has no token",
                "Repair the tokenizer of this model, or use another model.",
            )
        return cast("list[str]", tokens)


@torch.no_grad()
def to_bfloat16(model: SpladeModel) -> None:
    """Convert a model to bfloat16, all but the bias of its decoder, in place.

    With autocast, which converts the products alone, a GPU is a fifth slower, and the weights are
    no closer to those of float32: what bfloat16 costs, it costs in the products of the head.
    """
    bias = model.decoder.bias.detach().clone()
    model.mlm.to(dtype=torch.bfloat16)  # type: ignore[call-arg, arg-type, unused-ignore]
    model.decoder.to(torch.bfloat16)
    model.decoder.bias = nn.Parameter(bias, requires_grad=False)
