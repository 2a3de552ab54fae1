"""Models of a real size with random weights, for measuring where no model can be downloaded.

What a model costs does not depend on what it has learnt, except for the number of active terms: so
the bias is set such that a text has about `share` of the vocabulary.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: Name -> hidden size, layers, heads, inner size, vocabulary.
SIZES = {
    "tiny": (64, 2, 2, 256, 4000),
    "minilm": (384, 6, 12, 1536, 30522),
    "bert-base": (768, 12, 12, 3072, 30522),
}


def write_model(texts: list[str], path: Path, size: str, share: float = 0.01) -> None:
    """Save a BERT of one of SIZES, its WordPiece vocabulary made of the texts."""
    dim, layers, heads, inner, vocabulary = SIZES[size]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary, special_tokens=SPECIAL, show_progress=False
        ),
    )
    while tokenizer.get_vocab_size() < vocabulary:  # few texts have few words
        rest = range(tokenizer.get_vocab_size(), vocabulary)
        tokenizer.add_tokens([f"unused{n}" for n in rest])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    )
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=dim,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            initializer_range=0.7 / dim**0.5,
        )
    )
    with torch.no_grad():
        inputs = fast(texts[:24], return_tensors="pt", padding=True, truncation=True, max_length=96)
        largest = model.eval()(**inputs).logits.amax(dim=1)  # [24, V]
        model.cls.predictions.bias.sub_(largest.quantile(1 - share, dim=1).mean())
    model.save_pretrained(path)
    fast.save_pretrained(path)
