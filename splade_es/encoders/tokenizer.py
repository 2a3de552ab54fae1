"""Tokenizers without transformers: the tokenizer.json of a model, read by `tokenizers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splade_es.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """Load the tokenizer of a folder; it truncates at max_length tokens. Raises ModelError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.encode("a ☃")  # do its parts fit together?
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"{folder}: tokenizer.json is missing or invalid ({error})",
            "Save or download the model again.",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def same_in_transformers(folder: Path, model_type: str, tokenizer: Tokenizer) -> bool:
    """Return whether transformers would tokenise in the same way.

    transformers 5 uses tokenizer.json as it is for its generic class only. For the tokenizers of
    BERT and RoBERTa it reads the vocabulary, and builds the rest from tokenizer_config.json.
    """
    config = _read_json(folder / "tokenizer_config.json")
    name = config.get("tokenizer_class") or {"roberta": "RobertaTokenizer"}.get(
        model_type, "BertTokenizer" if model_type in ("bert", "distilbert") else ""
    )

    def state(part: Any) -> dict[str, Any]:
        return dict(json.loads(part.__getstate__())) if part is not None else {}

    normalizer, splitter = state(tokenizer.normalizer), state(tokenizer.pre_tokenizer)
    name = name.removesuffix("Fast")
    if name in ("PreTrainedTokenizer", "TokenizersBackend"):
        return True
    if name in ("BertTokenizer", "DistilBertTokenizer"):
        return splitter.get("type") == "BertPreTokenizer" and normalizer == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        }
    return (
        name == "RobertaTokenizer"
        and not normalizer
        and splitter.get("type") == "ByteLevel"
        and splitter.get("add_prefix_space") == config.get("add_prefix_space", False)
    )


def special_ids(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids that transformers treats as special: by a flag, or by the configuration."""
    ids = {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        for key, value in _read_json(folder / file).items():
            if key.endswith("_token"):
                token = value["content"] if isinstance(value, dict) else value
                id = tokenizer.token_to_id(token) if isinstance(token, str) else None
                ids |= set() if id is None else {id}
    return frozenset(ids)


def _read_json(path: Path) -> dict[str, Any]:
    """Read an object; {} if there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
