"""Loading, forward and saving, held against transformers and sentence-transformers."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
)

from models import TEXTS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError
from splade_es.models.files import fingerprint
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair
from splade_es.training.teachers import load_teacher

TEXT_LIST = list(TEXTS.values())


def dense(name: str, texts: list[str], max_length: int) -> torch.Tensor:
    """The textbook way, with nothing of ours."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForMaskedLM.from_pretrained(name).eval()
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits
    mask = inputs["attention_mask"].unsqueeze(-1)
    weights: torch.Tensor = (torch.log1p(torch.relu(logits)) * mask).amax(dim=1)
    return weights


def save(model: SpladeModel, directory: Path) -> None:
    EncoderPair(model, model).save(directory)


def vectors(name: str | Path, texts: list[str]) -> torch.Tensor:
    encoder = Encoder.load(name, precision="fp32")  # whatever this machine is fast with
    rows = torch.zeros(len(texts), len(encoder.vocabulary))
    for i, row in enumerate(encoder.encode(texts)):
        rows[i, row.ids] = torch.from_numpy(row.weights)
    return rows


def test_vectors_are_those_of_the_plain_masked_lm(tiny_model: str) -> None:
    ours = vectors(tiny_model, TEXT_LIST)
    theirs = dense(tiny_model, TEXT_LIST, 64)
    theirs[:, :5] = 0  # special tokens are no features
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert 0.02 < (ours > 0).float().mean() < 0.98


def test_what_is_saved_gives_the_same_vectors_everywhere(tiny_model: str, tmp_path: Path) -> None:
    sparse_encoder = pytest.importorskip("sentence_transformers").SparseEncoder
    model = SpladeModel.load(tiny_model, max_length=8)
    with torch.no_grad():
        model.decoder.bias.add_(0.1)  # tell it from the one it came from
    save(model, tmp_path / "saved")
    saved = str(tmp_path / "saved")
    ours = vectors(saved, TEXT_LIST)
    assert Encoder.load(saved).max_length == 8
    torch.testing.assert_close(ours, dense(saved, TEXT_LIST, 8), atol=1e-4, rtol=1e-4)
    theirs = sparse_encoder(saved, device="cpu").encode(TEXT_LIST, convert_to_sparse_tensor=False)
    torch.testing.assert_close(ours, theirs.cpu(), atol=1e-4, rtol=1e-4)


def test_sum_pooling_is_saved_too(tiny_model: str, tmp_path: Path) -> None:
    sparse_encoder = pytest.importorskip("sentence_transformers").SparseEncoder
    model = SpladeModel.load(tiny_model)
    model.pooling = "sum"
    save(model, tmp_path / "sum")
    ours = vectors(tmp_path / "sum", TEXT_LIST)
    theirs = sparse_encoder(str(tmp_path / "sum"), device="cpu").encode(
        TEXT_LIST, convert_to_sparse_tensor=False
    )
    torch.testing.assert_close(ours, theirs.cpu(), atol=1e-4, rtol=1e-4)
    assert (ours > vectors(tiny_model, TEXT_LIST) + 0.01).any()


def test_a_model_saved_by_sentence_transformers_loads(tiny_model: str, tmp_path: Path) -> None:
    sparse_encoder = pytest.importorskip("sentence_transformers").SparseEncoder
    sparse_encoder(tiny_model, device="cpu").save_pretrained(str(tmp_path / "st"))
    torch.testing.assert_close(
        vectors(tmp_path / "st", TEXT_LIST),
        vectors(tiny_model, TEXT_LIST),
    )


def test_saving_over_a_model_replaces_it_and_leaves_nothing_else(
    tiny_model: str, make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    save(SpladeModel.load(tiny_model), tmp_path)
    before = fingerprint(str(tmp_path))
    save(SpladeModel.load(make_masked_lm(seed=1)), tmp_path)
    assert fingerprint(str(tmp_path)) != before
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert json.loads((tmp_path / "1_SpladePooling" / "config.json").read_text()) == {
        "pooling_strategy": "max",
        "activation_function": "relu",
    }


def message(name: str, max_length: int | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        Encoder.load(name, max_length)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory_that_is_no_masked_lm(tmp_path: Path, tiny_model: str) -> None:
    gpt2 = tmp_path / "gpt2"
    GPT2LMHeadModel(
        GPT2Config(vocab_size=60, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    ).save_pretrained(gpt2)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_model, name), gpt2)
    assert message(str(gpt2)).startswith(
        f"{gpt2}: a model of type 'gpt2' is not a masked language model. Name a directory with "
    )


def test_a_head_that_is_more_than_a_decoder(tmp_path: Path, tiny_model: str) -> None:
    bart = tmp_path / "bart"
    BartForConditionalGeneration(
        BartConfig(
            vocab_size=200, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
            decoder_ffn_dim=8, encoder_attention_heads=1, decoder_attention_heads=1,
        )
    ).save_pretrained(bart)  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_model, name), bart)
    assert message(str(bart)).startswith(f"{bart}: a bart model does more to its logits than ")


def test_a_tokenizer_of_another_model(tmp_path: Path, tiny_model: str) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(tiny_model, mixed)
    tokenizer = AutoTokenizer.from_pretrained(mixed)
    tokens = len(tokenizer)
    tokenizer.add_tokens([f"more{n}" for n in range(100)])
    tokenizer.save_pretrained(mixed)
    assert message(str(mixed)).startswith(
        f"{mixed}: the tokenizer has {tokens + 100} tokens, the model only "
    )


def test_files_of_sentence_transformers_that_cannot_be_used(
    tmp_path: Path, tiny_model: str
) -> None:
    path = tmp_path / "model"
    save(SpladeModel.load(tiny_model), path)
    pooling = path / "1_SpladePooling" / "config.json"
    pooling.write_text("{")
    assert message(str(path)).startswith(f"{pooling}: invalid JSON (")
    (path / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.Router"}]')
    assert message(str(path)) == (
        f"{path}: router_config.json does not say how queries and documents are encoded. "
        "Save or download the model again."
    )


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    assert message(str(tmp_path)).startswith(
        f"{tmp_path}: there is no model in this directory. Name "
    )


def test_the_code_of_a_model_is_never_run(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForMaskedLM": "own.Model"}
    (model / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (model / "own.py").write_text(f"open({str(ran)!r}, 'w').close()")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(ModelError, match="the code of a model is never run"):
        SpladeModel.load(model)
    with pytest.raises(ModelError, match="the code of a model is never run"):
        load_teacher(str(model))
    assert not ran.exists()


def test_a_missing_directory(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert message(str(path)) == (
        f"{path}: no such directory. Name a model directory or a hub model."
    )


def test_damaged_weights_are_named(tmp_path: Path, tiny_model: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert message(str(broken)).startswith(f"{broken}: cannot load this bert model (")


def test_an_encoder_without_a_trained_head_cannot_encode_yet(
    tmp_path: Path, tiny_model: str
) -> None:
    bare = tmp_path / "bare"
    AutoModelForMaskedLM.from_pretrained(tiny_model).bert.save_pretrained(bare)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(bare)
    assert message(str(bare)) == (
        f"{bare}: this is an encoder without a trained masked-LM head, not a SPLADE model. "
        "Train it first: splade-es train."
    )


def test_max_length_beyond_the_model(tiny_model: str) -> None:
    assert message(tiny_model, max_length=65) == (
        f"max_length must be from 3 to 64 for {tiny_model}, not 65. Choose another length."
    )


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "deberta-v2", "modernbert"])
def test_other_architectures_are_split_exactly(kind: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    from models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2}  # DistilBERT's names
    if kind != "distilbert":
        sizes = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        max_position_embeddings=70,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        initializer_range=0.5,
        **sizes,
    )
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    theirs = dense(str(tmp_path), TEXT_LIST, 64)
    theirs[:, :5] = 0
    ours = vectors(tmp_path, TEXT_LIST)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert (ours > 0).any()
