"""Any Hugging Face masked language model as a SPLADE encoder: loading, forward, saving.

The model is split at its output embeddings. With those swapped for an identity the model's own
`logits` are the transformed hidden states H [B, L, d], whatever the architecture; the decoder
matrix W [V, d] and bias [V] stay beside it for `head.splade_head`. Saving puts them back, so what
is written is an ordinary masked-LM directory, which `AutoModelForMaskedLM` and
sentence-transformers' `SparseEncoder` load as well.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
import transformers
from torch import Tensor, nn

from splade_es.errors import ModelError
from splade_es.models.files import Activation, Pooling, read_sides
from splade_es.models.head import presence, splade_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: A bias that no dot product of hidden state and embedding outweighs, and that float16 holds.
SILENT = -1e4
_DEFAULT_MAX_LENGTH = 256


class _Identity(nn.Identity):
    """Stands in for the decoder. BERT and DeBERTa look at its `bias`."""

    bias = None


class SpladeModel(nn.Module):
    """A masked language model under the SPLADE head.

    Attributes: tokenizer; pooling; activation; lexical (only tokens of the text itself get a
    weight); max_length (tokens of a text, special ones included); name (the directory or hub name
    it came from); fresh_head (the parameters of the prediction head the checkpoint did not have:
    empty for a trained masked LM).
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
                f"{name}: no output embeddings to read a vocabulary from",
                "Use a masked language model.",
            )
        self.decoder = decoder
        if len(tokenizer) > len(decoder.weight):
            raise ModelError(
                f"{name}: the tokenizer has {len(tokenizer):,} tokens, the model only "
                f"{len(decoder.weight):,}",
                "Give a model with the tokenizer it was trained with.",
            )
        if self.decoder.bias is None:  # which the saved model cannot have either: not trained
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
        # Special tokens say nothing about a text, and rows past the tokenizer's vocabulary (padding
        # to a round number) have no token at all: neither ever becomes a feature.
        silent = torch.zeros(len(decoder.weight), dtype=torch.bool)
        silent[tokenizer.all_special_ids] = True
        silent[len(tokenizer) :] = True
        self.register_buffer("silent", silent, persistent=False)
        self.silent: Tensor

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        max_length: int | None = None,
        side: Literal["document", "query"] = "document",
    ) -> SpladeModel:
        """Load a directory, or a model of the Hugging Face hub by its name.

        max_length: tokens of a text, up to what the model has positions for; by default what the
        tokenizer says, if that is under 512, else 256. side: which encoder, where a model has two.
        Pooling and activation come from the directory's sentence-transformers files where it has
        them, else they are max and relu. Raises ModelError.
        """
        name = os.fspath(name)
        sides = read_sides(name)
        part = sides.query if side == "query" else sides.document
        if part.table:
            raise ModelError(
                f"{name}: its {side} side is a table of weights, not an encoder",
                "Use it to search; train from the model it was made of.",
            )
        mlm, tokenizer, missing = _load_pretrained(part.path)
        limit = _position_limit(mlm)
        # under 512 it was set on purpose: the model was trained with that many tokens
        trained = tokenizer.model_max_length
        usual = min(limit, trained if trained < 512 else _DEFAULT_MAX_LENGTH)
        length = usual if max_length is None else max_length
        if not 3 <= length <= limit:
            raise ModelError(
                f"max_length must be 3 to {limit} for {name}, not {length}", "Choose another."
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
        model._try_out()
        return model

    @torch.no_grad()
    def _try_out(self) -> None:
        """Raises ModelError if the logits without the decoder are no hidden states, as in BART."""
        try:
            hidden = self.hidden(**self.tokenizer(["a"], return_tensors="pt"))  # [1, L, d]
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
        """The decoder's bias [V], SILENT for tokens that never become a feature."""
        return self.decoder.bias.masked_fill(self.silent, SILENT)

    def hidden(self, **inputs: Tensor) -> Tensor:
        """The transformed hidden states H [B, L, d] of tokenizer output [B, L]."""
        return cast(Tensor, self.mlm(**inputs).logits)

    def forward(self, **inputs: Tensor) -> Tensor:
        """SPLADE weights, float32 [B, V], of tokenizer output (input_ids, attention_mask, ...)."""
        return self.weights(self.hidden(**inputs), inputs)

    def weights(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """SPLADE weights, float32 [B, V], of hidden states [B, L, d]."""
        kind = hidden.device.type
        if torch.is_autocast_enabled(kind):  # the LayerNorm before it gives float32 on a GPU
            hidden = hidden.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):  # the head chooses its own dtypes
            mask = inputs["attention_mask"]
            weights = splade_head(
                hidden, mask, self.decoder.weight, self.bias, self.pooling, self.activation
            )
            if self.lexical:
                weights = weights * presence(inputs["input_ids"], mask, weights.shape[1])
            return weights

    @torch.no_grad()
    def silence_special_tokens(self) -> None:
        """Write into the bias what `forward` enforces, so that any other loader agrees."""
        self.decoder.bias.masked_fill_(self.silent, SILENT)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the files of a masked language model: transformers loads them as they are.

        For sentence-transformers, and for `load` to find pooling and activation, other files stand
        beside them: see `retriever.EncoderPair.save`.
        """
        self.silence_special_tokens()
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

        Raises ModelError for an id in between that has no token.
        """
        ids = list(range(len(self.tokenizer)))
        tokens = cast("list[str | None]", self.tokenizer.convert_ids_to_tokens(ids))
        if None in tokens:
            raise ModelError(
                f"{self.name}: id {tokens.index(None)} of the tokenizer has no token",
                "Repair the tokenizer of this model, or take another model.",
            )
        return cast("list[str]", tokens)


def _load_pretrained(
    name: str,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, frozenset[str]]:
    """Model, tokenizer, and the names of the head's parameters the checkpoint lacks."""
    if not Path(name).is_dir() and (Path(name).is_absolute() or name.startswith((".", "~"))):
        raise ModelError(f"{name}: no such directory", "Name a model directory or a hub model.")
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            mlm, info = transformers.AutoModelForMaskedLM.from_pretrained(
                name, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # transformers raises whatever its parsers raise
        raise ModelError(_why_not_loaded(name, error), _LOAD_HINT) from error
    base = f"{mlm.base_model_prefix}."
    missing = frozenset(info["missing_keys"])
    if lost := sorted(key for key in missing if key.startswith(base) and "embed" not in key):
        raise ModelError(f"{name}: weights are missing, {lost[0]} among them", _LOAD_HINT)
    return mlm, tokenizer, missing


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice for programmers: errors say all that a user needs."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


_LOAD_HINT = (
    "Give a directory with config.json, model.safetensors and tokenizer.json of a masked language "
    "model, or the name of one on the Hugging Face hub."
)


def _why_not_loaded(name: str, error: Exception) -> str:
    if not Path(name).is_dir():
        return f"{name}: no such directory, and the Hugging Face hub gave no such model"
    try:
        kind = json.loads(Path(name, "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{name}: no model in this directory"
    if "Unrecognized configuration class" in str(error):
        return f"{name}: a model of type {kind!r} is no masked language model"
    return f"{name}: cannot load this {kind} model ({str(error).partition(chr(10))[0][:200]})"


def _position_limit(mlm: PreTrainedModel) -> int:
    """Tokens of the longest text the model takes."""
    positions: int = getattr(mlm.config, "max_position_embeddings", None) or 512
    if mlm.config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"):
        positions -= mlm.config.pad_token_id + 1  # these count positions from the padding id on
    return positions
