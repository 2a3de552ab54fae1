"""Japanese with MeCab, and with SentencePiece: trained, indexed and found on every engine."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import SentencePieceUnigramTokenizer
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import splade_es
from any_engine import write_corpus
from models import SPECIAL
from splade_es import Encoder, TrainConfig
from splade_es.engines.base import Engine
from splade_es.errors import TrainingError
from splade_es.index_handle import Index
from splade_es.inspection.expand import expand

PAIRS = {
    "心臓病の薬": "狭心症の治療にはニトログリセリンを使う。",
    "骨を強くする食べ物": "カルシウムは牛乳や小魚に多い。",
    "頭が痛いとき": "偏頭痛には安静と鎮痛剤がよい。",
    "血糖値を下げる": "糖尿病ではインスリンを注射する。",
    "目が見えにくい": "白内障は手術で視力が戻る。",
    "熱と咳": "インフルエンザは三日ほどで治まる。",
}


def mecab(directory: Path) -> None:
    """What bert-base-japanese has: words of MeCab, then word pieces."""
    pytest.importorskip("fugashi", reason="pip install 'splade-es[ja]'")
    import fugashi
    import unidic_lite
    from transformers import BertJapaneseTokenizer

    tagger = fugashi.GenericTagger(
        f"-Owakati -d {unidic_lite.DICDIR} -r {unidic_lite.DICDIR}/dicrc"
    )
    words = sorted(
        {w for pair in PAIRS.items() for text in pair for w in tagger.parse(text).split()}
    )
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8")
    BertJapaneseTokenizer(
        str(directory / "vocab.txt"),
        word_tokenizer_type="mecab",
        subword_tokenizer_type="wordpiece",
        mecab_kwargs={"mecab_dic": "unidic_lite"},
    ).save_pretrained(directory)


def sentence_piece(directory: Path) -> None:
    tokenizer = SentencePieceUnigramTokenizer()
    tokenizer.train_from_iterator(
        [text for pair in PAIRS.items() for text in pair],
        vocab_size=200, show_progress=False, special_tokens=SPECIAL, unk_token="[UNK]",
    )  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    ).save_pretrained(directory)


@pytest.mark.parametrize("make_tokenizer", [mecab, sentence_piece])
def test_japanese_is_learnt_indexed_and_found(
    make_tokenizer: Callable[[Path], None], engine: Engine, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    make_tokenizer(start)
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(start)
    BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.3,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    ).save_pretrained(start)  # fmt: skip
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"query": query, "positive": text} for query, text in PAIRS.items()]
    pairs.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    model = tmp_path / "model"
    if make_tokenizer is mecab:  # which leaves no tokenizer.json for a table of queries
        table = TrainConfig(
            data=pairs, model=start, output=model, kind="idf", query_length=24, doc_length=32
        )
        with pytest.raises(TrainingError, match="kind idf reads queries by"):
            splade_es.train(table)
        model.rmdir()
    settings = TrainConfig(
        data=pairs, model=start, output=model, steps=150, batch_size=6, lr=5e-3,
        query_length=24, doc_length=32, doc_lambda=1e-4, query_lambda=1e-4, precision="fp32",
    )  # fmt: skip
    splade_es.train(settings)

    texts = {str(n): text for n, text in enumerate(PAIRS.values())}
    encoder = Encoder.load(model)
    index = Index(engine, f"test-{uuid.uuid4().hex}")
    try:
        index.load(write_corpus(tmp_path / "corpus.jsonl", texts), encoder)
        for number, query in enumerate(PAIRS):
            assert index.search(query, 3)[0].id == str(number), query
    finally:
        index.delete()
    text = texts["1"]
    pieces = [text[start:end] for start, end in encoder.token_spans(text)]
    caused = {token.word for token in expand(encoder, text, None)}
    # pieces as the tokenizer made them: where there are no spaces, nothing says where a word ends
    assert "牛乳" in "".join(pieces) and caused and caused <= set(pieces)
    assert max(map(len, caused)) <= 6
