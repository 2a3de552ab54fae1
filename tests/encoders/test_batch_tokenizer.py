"""Token ids of many texts: those of transformers, whatever kind of tokenizer a model has."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertJapaneseTokenizer

from models import TEXTS, tiny_tokenizer
from splade_es.encoders.batches import BatchTokenizer


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("texts", [[], ["heart attack"], [*TEXTS.values(), "", "heart " * 400]])
def test_ids_are_those_of_transformers(fast: bool, texts: list[str], tmp_path: Path) -> None:
    tokenizer: Any = tiny_tokenizer()
    if not fast:
        (tmp_path / "vocab.txt").write_text("\n".join(tokenizer.vocab))
        tokenizer = BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), word_tokenizer_type="basic")
    assert tokenizer.is_fast == fast
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    found = BatchTokenizer(model, 16)(texts)
    expected = [tokenizer(text, truncation=True, max_length=16)["input_ids"] for text in texts]
    assert [ids.tolist() for ids in found.all_ids()] == expected
    assert found.lengths == [len(ids) for ids in expected]
    assert found.truncated == [len(tokenizer(text)["input_ids"]) > 16 for text in texts]
