"""Masked language models and tokenizers as transformers loads them, with errors for people."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from splade_es.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOAD_HINT = (
    "Name a directory with config.json, model.safetensors and tokenizer.json of a masked language "
    "model, or one on the Hugging Face hub."
)


def load_pretrained(
    name: str,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, frozenset[str]]:
    """Load model and tokenizer, and name the parameters of the head that the checkpoint lacks."""
    if not Path(name).is_dir() and (Path(name).is_absolute() or name.startswith((".", "~"))):
        raise ModelError(f"{name}: no such directory", "Name a model directory or a hub model.")
    try:
        with quiet_transformers():
            # by default transformers asks on the terminal whether to run the model's code
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            mlm, info = transformers.AutoModelForMaskedLM.from_pretrained(
                name, output_loading_info=True, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # transformers passes on whatever its parsers raise
        raise ModelError(_why_not_loaded(name, error), _LOAD_HINT) from error
    base = f"{mlm.base_model_prefix}."
    missing = frozenset(info["missing_keys"])
    if lost := sorted(key for key in missing if key.startswith(base) and "embed" not in key):
        raise ModelError(f"{name}: weights are missing, for example {lost[0]}", _LOAD_HINT)
    return mlm, tokenizer, missing


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off the progress bars and warnings of transformers: our errors say what is needed."""
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


def why_not_trusted(error: Exception) -> str | None:
    """What a person is told where transformers would have to run the code of a model."""
    if "trust_remote_code" not in str(error):
        return None
    return "it has Python code of its own, and the code of a model is never run"


def _why_not_loaded(name: str, error: Exception) -> str:
    if code := why_not_trusted(error):
        return f"{name}: {code}"
    if not Path(name).is_dir():
        return f"{name}: there is no such directory, and no such model on the Hugging Face hub"
    try:
        kind = json.loads(Path(name, "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{name}: there is no model in this directory"
    if "Unrecognized configuration class" in str(error):
        return f"{name}: a model of type {kind!r} is not a masked language model"
    return f"{name}: cannot load this {kind} model ({str(error).partition(chr(10))[0][:200]})"


def position_limit(mlm: PreTrainedModel) -> int:
    """Return how many tokens the longest text may have."""
    positions: int = getattr(mlm.config, "max_position_embeddings", None) or 512
    if mlm.config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"):
        positions -= mlm.config.pad_token_id + 1  # their positions begin after the padding id
    return positions
