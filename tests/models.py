"""Tiny models, made on the spot, and a small text to index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
    heart attack pain chest doctor treatment the a of and is in for what how to vitamin bone milk
    calcium eye vision loss blood pressure sugar insulin diabetes liver kidney cancer cell gene
    cough fever cold flu virus vaccine skin rash itch allergy ##s ##ing ##ed 3 . % 9
""".split()  # noqa: SIM905
TEXTS = {
    "heart": "The heart attack is pain in the chest.",
    "bone": "Calcium and vitamin in milk for the bone.",
    "eye": "Vision loss of the eye.",
    "sugar": "Diabetes: blood sugar and insulin.",
    "flu": "Cough and fever in the flu. A virus.",
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: id for id, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    )


def tiny_masked_lm(directory: Path, seed: int = 0, bias: float = -0.6) -> str:
    """Writes a masked language model as any other tool would; returns its directory."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    model = BertForMaskedLM(config)
    with torch.no_grad():
        model.cls.predictions.bias.fill_(bias)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def make_masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a masked language model as any other tool would; returns its directory."""

    def make(seed: int = 0, bias: float = -0.6) -> str:
        return tiny_masked_lm(tmp_path_factory.mktemp("masked_lm"), seed, bias)

    return make


@pytest.fixture(scope="session")
def tiny_model(make_masked_lm: Callable[..., str]) -> str:
    """A masked language model directory whose texts have some, but not all terms active."""
    return make_masked_lm()


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """TEXTS as JSON Lines."""
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in TEXTS.items())
    )
    return path


@pytest.fixture
def beir_folder(tmp_path: Path, corpus_file: Path) -> Path:
    """TEXTS as a BEIR folder, each one found by two of its own words."""
    queries = {"q1": ("heart attack", "heart"), "q2": ("vitamin milk", "bone")}
    (tmp_path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": id, "text": q}) + "\n" for id, (q, _) in queries.items())
    )
    (tmp_path / "qrels").mkdir()
    for split in ("test", "dev"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n"
            + "".join(f"{id}\t{doc}\t1\n" for id, (_, doc) in queries.items())
        )
    return tmp_path
