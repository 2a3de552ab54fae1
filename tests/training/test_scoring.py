"""Scoring: whose numbers they are, where they stand, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

from models import TEXTS, tiny_tokenizer
from splade_es.encoders import torch_encoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import CorpusError, SettingsError, SpladeEsError
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable
from splade_es.progress import ScoreProgress
from splade_es.training.scoring import score_lines
from splade_es.training.teachers import SpladeTeacher

HEART: dict[str, Any] = {
    "query": "heart attack",
    "positive": TEXTS["heart"],
    "positive_id": "heart",
    "negatives": [TEXTS["bone"], "milk", TEXTS["sugar"] * 5],
    "scores": [9],
}
EYE: dict[str, Any] = {
    "query": "vision of the eye",
    "positive": TEXTS["eye"],
    "negative": TEXTS["flu"],
}
BARE: dict[str, Any] = {"query": "cough", "positive": TEXTS["flu"]}
PAIRS: list[list[tuple[str, str]]] = [
    [(HEART["query"], text) for text in (HEART["positive"], *HEART["negatives"])],
    [(EYE["query"], EYE["positive"]), (EYE["query"], EYE["negative"])],
    [(BARE["query"], BARE["positive"])],
]


def cross_encoder(directory: Path, seed: int = 0, labels: int = 1) -> str:
    """A cross-encoder as any other tool would write it."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save_pretrained(directory)
    BertForSequenceClassification(tiny_config(labels)).save_pretrained(directory)
    return str(directory)


def tiny_config(labels: int = 1) -> BertConfig:
    return BertConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
        id2label={n: str(n) for n in range(labels)},
    )


def logits(directory: str, pairs: list[Any]) -> list[float]:
    """By transformers alone, one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    scores = []
    for query, text in pairs:
        inputs = tokenizer(query, text, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            scores.append(model(**inputs).logits.item())
    return scores


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def scored(path: str, teachers: list[str], output: Path, **settings: Any) -> list[dict[str, Any]]:
    list(score_lines(path, teachers, str(output), **settings))
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode in float32 on every CPU: in bfloat16 a vector depends a little on its batch."""
    monkeypatch.setattr(torch_encoder, "compute_dtype", lambda precision, device: torch.float32)


@pytest.fixture
def lines(tmp_path: Path) -> str:
    return write(tmp_path / "lines.jsonl", HEART, EYE, BARE)


def test_a_cross_encoders_logits_are_written_raw(
    lines: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    teacher = cross_encoder(tmp_path / "teacher")
    capfd.readouterr()
    (counts,) = score_lines(lines, [teacher], str(tmp_path / "out.jsonl"))
    assert counts == ScoreProgress(total=3, lines=3, pairs=7, bare=1, seconds=counts.seconds)
    assert capfd.readouterr() == ("", "")  # what loads a model has much to say
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for row, given, pairs in zip(rows, (HEART, EYE, BARE), PAIRS, strict=True):
        assert row["scores"] == pytest.approx(logits(teacher, pairs), abs=1e-4)
        assert {**row, "scores": None} == {**given, "scores": None}
    numbers = [number for row in rows for number in row["scores"]]
    assert max(numbers) > 1 or min(numbers) < 0  # no sigmoid


def test_scores_do_not_depend_on_the_window(lines: str, tmp_path: Path) -> None:
    teacher = cross_encoder(tmp_path / "teacher")
    together = scored(lines, [teacher], tmp_path / "a.jsonl")
    steps = list(score_lines(lines, [teacher], f"{tmp_path}/b", window_pairs=1))
    assert [(counts.lines, counts.pairs) for counts in steps] == [(1, 4), (2, 6), (3, 7)]
    alone = [json.loads(line) for line in (tmp_path / "b").read_text().splitlines()]
    for a, b in zip(together, alone, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], abs=1e-5)


def test_a_text_seen_lately_is_not_encoded_again(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = SpladeTeacher(tiny_model, cached_vectors=3)
    pairs = [("heart attack", TEXTS["heart"]), ("heart attack", TEXTS["flu"])]
    scores = teacher.score(pairs)
    seen: list[str] = []
    encode = Encoder.encode

    def recorded(self: Encoder, texts: list[str], **options: Any) -> Any:
        seen.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", recorded)
    assert teacher.score([*pairs[::-1], ("heart attack", "milk")])[:2] == scores[::-1]
    assert seen == ["milk"]
    assert teacher.score([("heart attack", TEXTS["flu"]), ("heart attack", "eye")])[1] > 0
    teacher.score([("heart attack", TEXTS["heart"])])
    assert seen == ["milk", "eye", TEXTS["heart"]]  # the oldest was removed


@pytest.mark.usefixtures("float32")
def test_a_splade_model_scores_by_dot_product(lines: str, tmp_path: Path, tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model)
    rows = scored(lines, [tiny_model], tmp_path / "out.jsonl")
    for row, pairs in zip(rows, PAIRS, strict=True):
        expected = []
        for query, document in encoder_rows(encoder, encoder, pairs):
            expected.append(sum(weight * document.get(id, 0.0) for id, weight in query.items()))
        assert row["scores"] == pytest.approx(expected, rel=1e-4)
        assert all(number > 0 for number in row["scores"])


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_sentence_encoder_scores_by_its_own_similarity(
    lines: str,
    tmp_path: Path,
    similarity: Literal["cosine", "dot"],
    capfd: pytest.CaptureFixture[str],
) -> None:
    from sentence_transformers import SentenceTransformer

    BertModel(tiny_config()).save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    model = SentenceTransformer(
        str(tmp_path / "bert"),
        similarity_fn_name=similarity,
        prompts={"query": "heart ", "document": ""},
    )
    model.save(str(tmp_path / "teacher"))
    config = tmp_path / "teacher" / "config.json"  # as that of all-mpnet-base-v2 says
    config.write_text(config.read_text().replace("BertModel", "BertForMaskedLM"))
    capfd.readouterr()
    rows = scored(lines, [str(tmp_path / "teacher")], tmp_path / "out.jsonl")
    assert capfd.readouterr() == ("", "")
    for row, pairs in zip(rows, PAIRS, strict=True):
        queries = model.encode_query([query for query, _ in pairs])
        documents = model.encode_document([text for _, text in pairs])
        if similarity == "cosine":
            queries = queries / np.linalg.norm(queries, axis=1, keepdims=True) * 20
            documents = documents / np.linalg.norm(documents, axis=1, keepdims=True)
        expected = (queries * documents).sum(axis=1)
        assert row["scores"] == pytest.approx(expected.tolist(), rel=1e-4)


def encoder_rows(queries: Any, documents: Encoder, pairs: list[Any]) -> Any:
    for pair in pairs:
        (query,), (document,) = queries.encode(pair[:1]), documents.encode(pair[1:])
        yield tuple(
            dict(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
            for row in (query, document)
        )


@pytest.mark.usefixtures("float32")
def test_a_splade_model_with_a_table_for_queries(
    lines: str, tmp_path: Path, make_masked_lm: Callable[..., str]
) -> None:
    documents = SpladeModel.load(make_masked_lm())
    table = torch.linspace(0, 3, len(documents.decoder.weight))
    EncoderPair(documents, QueryTable(table, documents.suppressed)).save(tmp_path / "idf")
    encoder = Encoder.load(str(tmp_path / "idf"))
    rows = scored(lines, [str(tmp_path / "idf")], tmp_path / "out.jsonl")
    ids = [encoder.vocabulary.index(token) for token in ("heart", "attack")]
    for number, text in zip(rows[0]["scores"], (pair[1] for pair in PAIRS[0]), strict=True):
        (row,) = encoder.encode([text])
        weights = dict(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
        assert number == pytest.approx(
            sum(float(table[id]) * weights.get(id, 0.0) for id in ids), rel=1e-4
        )


def test_several_teachers_are_brought_to_one_range_and_averaged(
    lines: str, tmp_path: Path, tiny_model: str
) -> None:
    teachers = [cross_encoder(tmp_path / "teacher"), tiny_model]
    raw = [scored(lines, [teacher], tmp_path / "out.jsonl") for teacher in teachers]
    both = scored(lines, teachers, tmp_path / "out.jsonl")
    for n, row in enumerate(both[:2]):
        table = np.array([rows[n]["scores"] for rows in raw])
        low, high = table.min(axis=1), table.max(axis=1)
        expected = [
            30 * sum((table[t][i] - low[t]) / (high[t] - low[t]) for t in (0, 1)) / 2
            for i in range(table.shape[1])
        ]
        assert row["scores"] == pytest.approx(expected, abs=1e-3)
    assert both[2]["scores"] == [0.0]  # of one text there is nothing to compare
    tenth = scored(lines, teachers, tmp_path / "out.jsonl", scale=3.0)
    assert tenth[0]["scores"] == pytest.approx([s / 10 for s in both[0]["scores"]], abs=1e-5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q"}, ':2: "positive" must be a text that is not empty. Correct or rem'),
        ({"positive": "p"}, ':2: "query" must be a text that is not empty. Correct or rem'),
        ({**BARE, "negatives": "n"}, ':2: "negatives" must be a list of texts that are not em'),
        ({**BARE, "negatives": ["n", ""]}, ':2: "negatives" must be a list of texts that are'),
        ({**BARE, "negative": 3}, ':2: "negatives" must be a list of texts that are not empty.'),
        ("text", ":2: a string, not an object; write one object on each line"),
    ],
)
def test_a_bad_line_is_named_before_a_teacher_is_loaded(
    tmp_path: Path, row: Any, said: str
) -> None:
    path = write(tmp_path / "lines.jsonl", BARE, row)
    with pytest.raises(SpladeEsError) as caught:
        scored(path, ["/no/such/teacher"], tmp_path / "out.jsonl")
    assert str(caught.value).startswith(path + said)
    assert list(tmp_path.iterdir()) == [Path(path)]


def test_no_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.jsonl")
    with pytest.raises(SpladeEsError, match=r"there are no lines\. Write lines with"):
        scored(path, ["/no/such/teacher"], tmp_path / "out.jsonl")
    with pytest.raises(SpladeEsError, match=r"Standard input cannot be read twice\. Give a file\."):
        scored("-", ["/no/such/teacher"], tmp_path / "out.jsonl")


def test_the_input_is_not_overwritten(lines: str) -> None:
    before = Path(lines).read_text()
    with pytest.raises(
        SpladeEsError, match=r"`output` would overwrite the input .*\. Name another file"
    ):
        scored(lines, ["/no/such/teacher"], Path(lines))
    assert Path(lines).read_text() == before


def test_a_score_that_is_not_finite_is_named(lines: str, tmp_path: Path) -> None:
    teacher = cross_encoder(tmp_path / "teacher")
    model = BertForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tiny_tokenizer().vocab["eye"]] = float("nan")
    model.save_pretrained(teacher)
    with pytest.raises(SpladeEsError) as caught:
        scored(lines, [teacher], tmp_path / "out.jsonl")
    assert str(caught.value) == (
        f"{lines}:2: the teacher {teacher} gives a score that is not finite. "
        "Choose another teacher, or remove the line."
    )
    assert not list(tmp_path.glob("out*"))


HINT = (
    "Name a cross-encoder, a sentence encoder or a SPLADE model: a directory, or one of the "
    "Hugging Face hub."
)


def refused(lines: str, teacher: Path | str, output: Path) -> str:
    with pytest.raises(SpladeEsError) as caught:
        scored(lines, [str(teacher)], output)
    return str(caught.value).replace(str(teacher), "TEACHER")


def test_what_is_no_teacher(lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    output = tmp_path / "out.jsonl"
    gone = (
        "TEACHER: there is no such directory, and the Hugging Face hub gave no such model. " + HINT
    )
    assert refused(lines, tmp_path / "none", output) == gone
    assert refused(lines, "no-such-owner/no-such-teacher", output) == gone
    (tmp_path / "empty").mkdir()
    assert refused(lines, tmp_path / "empty", output) == (
        "TEACHER: there is no readable model config in this directory. " + HINT
    )
    BertModel(tiny_config()).save_pretrained(tmp_path / "encoder")
    assert refused(lines, tmp_path / "encoder", output) == (
        "TEACHER: BertModel cannot be a teacher. " + HINT
    )
    assert refused(lines, cross_encoder(tmp_path / "three", labels=3), output) == (
        "TEACHER: a classifier of 3 classes, but a teacher gives a single score. "
        "Name a cross-encoder that was trained to rank."
    )
    damaged = Path(cross_encoder(tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"damaged")
    assert refused(lines, damaged, output).startswith("TEACHER: cannot load this cross-encoder (")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert refused(lines, cross_encoder(tmp_path / "teacher"), output) == (
        "TEACHER: a cross-encoder needs the package sentence-transformers. "
        "Run: pip install 'splade-es[teacher]'"
    )
    assert not output.exists()


def test_arguments_are_checked_at_the_call(lines: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out.jsonl")
    with pytest.raises(CorpusError, match="no such file"):
        score_lines("none.jsonl", ["t"], output)
    for teachers, scale, said in (
        ([], None, "`teachers` is empty. Name at least one."),
        (
            ["t"],
            3.0,
            "`teacher_scale` is for several teachers; the scores of one are written as they are. "
            "Leave it out.",
        ),
        (["t", "u"], 0.0, "`teacher_scale` is 0.0. Set it above 0."),
    ):
        with pytest.raises(SettingsError) as caught:
            score_lines(lines, teachers, output, scale)
        assert str(caught.value) == said
