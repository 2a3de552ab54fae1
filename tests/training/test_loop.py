"""The loop: it learns, resumes exactly, stops on bad numbers and leaves no half model."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    ModernBertConfig,
    ModernBertModel,
)

from any_engine import META, action
from models import TEXTS, WORDS
from splade_es.cli.signals import stop_event
from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.connect import connect_engine
from splade_es.errors import CorpusError, IndexMissing, Interrupted, TrainingError
from splade_es.models import files as model_files
from splade_es.models.files import fingerprint
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair
from splade_es.training.calibrate import calibrate
from splade_es.training.checkpoint import CHECKPOINT
from splade_es.training.config import TrainConfig
from splade_es.training.config_rules import Regularizer
from splade_es.training.dev_set import DevSet
from splade_es.training.loop import train_steps
from splade_es.training.losses import LOSSES
from splade_es.training.objective import Objective
from splade_es.training.problems import find_problems
from splade_es.training.step import StepResult

CONTENT = [word for word in WORDS if word.isalpha()]


@pytest.fixture
def config(tmp_path: Path, tiny_model: str) -> TrainConfig:
    """Queries and documents that share no word, so that matching has to be learnt."""
    lines = [
        {"query": f"{a} {b}", "positive": f"{c} {d}", "negatives": [f"{b} {a}"], "scores": [4, 1]}
        for a, b, c, d in zip(
            CONTENT[0:20:2], CONTENT[1:20:2], CONTENT[20:40:2], CONTENT[21:40:2], strict=True
        )
    ]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TrainConfig(
        data=str(data),
        model=tiny_model,
        output=str(tmp_path / "out"),
        steps=8,
        batch_size=5,
        lr=5e-3,
        doc_length=16,
        query_length=16,
        log_every=1,
        save_every=4,
        precision="fp32",
    )


def weights(directory: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    return load_file(Path(directory, "model.safetensors"))


@pytest.mark.parametrize("loss", ["infonce", "margin_mse", "kl"])
def test_the_loss_falls(config: TrainConfig, loss: str) -> None:
    config = replace(config, loss=loss, steps=60, save_every=60, doc_lambda=0, query_lambda=0)
    log = list(train_steps(config))
    assert log[-1].ranking_loss < 0.7 * log[0].ranking_loss
    assert Encoder.load(config.output).max_length == 16
    assert not Path(config.output, CHECKPOINT).exists()
    report = json.loads(Path(config.output, "training.json").read_text())
    assert report["loss"] == loss and report["history"][-1]["step"] == 60


@pytest.mark.parametrize("regularizer", ["flops", "l1"])
def test_regularizers_make_it_sparse(config: TrainConfig, regularizer: Regularizer) -> None:
    config = replace(config, steps=60, save_every=60, doc_lambda=1.0, query_lambda=1.0)
    log = list(train_steps(replace(config, query_regularizer=regularizer)))
    assert log[-1].doc_terms < 0.6 * log[0].doc_terms
    assert log[-1].query_terms < 0.6 * log[0].query_terms


def test_a_resumed_run_ends_bit_for_bit_as_one_that_was_not_stopped(
    config: TrainConfig, tmp_path: Path
) -> None:
    list(train_steps(config))
    stopped = replace(config, output=str(tmp_path / "stopped"))
    run = train_steps(stopped)
    while next(run).step < 5:  # past the checkpoint of step 4
        pass
    run.close()
    list(train_steps(stopped, resume=True))
    whole, resumed = weights(config.output), weights(stopped.output)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "separate"},
        {"kind": "separate", "freeze_documents": True},
        {"kind": "doc"},
        {"kind": "idf"},
        {"kind": "idf", "learn_idf": True, "idf_lr": 0.05},
        {"kind": "lexical"},
        {"pooling": "sum"},
        {"activation": "log1p_relu"},
        {"doc_regularizer": "df_flops", "df_every": 4},
        {"negatives": 1, "loss": "kl=1,margin_mse=0.05,infonce=0.1"},
        {"doc_terms": 20.0, "query_terms": 10.0},
    ],
    ids=str,
)
def test_every_kind_trains_resumes_and_is_found_again(
    config: TrainConfig, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(config, **{"steps": 30, "save_every": 10, **settings})
    log = list(train_steps(config))
    assert log[-1].ranking_loss < log[0].ranking_loss
    stopped = replace(config, output=str(tmp_path / "stopped"))
    run = train_steps(stopped)
    while next(run).step < 15:
        pass
    run.close()
    list(train_steps(stopped, resume=True))
    paths = sorted(p.relative_to(config.output) for p in Path(config.output).rglob("*.safetensors"))
    assert len(paths) == (2 if settings.get("kind") in ("separate", "doc", "idf", "lexical") else 1)
    for path in paths:
        whole, resumed = load_file(config.output / path), load_file(stopped.output / path)
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for encoder in (Encoder.load(config.output), load_query_encoder(config.output)):
        (row,) = encoder.encode([" ".join(CONTENT[:14])])
        assert len(row.ids)


def test_frozen_documents_fit_the_index_that_was_made_before(config: TrainConfig) -> None:
    list(train_steps(config))
    second = replace(
        config, model=config.output, output=f"{config.output}2", kind="separate",
        freeze_documents=True,
    )  # fmt: skip
    list(train_steps(second))
    assert fingerprint(str(second.output)) == fingerprint(str(config.output))
    assert not torch.equal(
        *(
            load_file(Path(second.output, place, "model.safetensors"))["cls.predictions.bias"]
            for place in ("", model_files.QUERY_ENCODER)
        )
    )


def test_document_frequencies_of_a_live_index(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of every document of the index is pushed down, any other one left alone."""
    common, rare = CONTENT[0], CONTENT[1]
    config = replace(
        config, doc_regularizer="df_flops", df_index="live", doc_lambda=50.0, query_lambda=0.0
    )
    shares: list[torch.Tensor] = []
    set_frequencies = Objective.set_frequencies

    def recorded(self: Objective, share: torch.Tensor) -> None:
        shares.append(share)
        set_frequencies(self, share)

    monkeypatch.setattr(Objective, "set_frequencies", recorded)
    with closing(connect_engine(f"local:{tmp_path / 'home'}")) as engine:
        engine.index("live").create(META)
        features = [{common: 9, **({rare: 9} if n == 0 else {})} for n in range(20)]
        engine.index("live").bulk([action(str(n), {"splade": f}) for n, f in enumerate(features)])
        list(train_steps(config, engine=engine))
        vocabulary = Encoder.load(str(config.output)).vocabulary
        found = {vocabulary[i]: share for i, share in enumerate(shares[0].tolist()) if share}
        assert found == {common: 1.0, rare: pytest.approx(0.05)}
        second = replace(config, output=f"{config.output}2", df_index="none")
        with pytest.raises(IndexMissing):
            train_steps(second, engine=engine)
    with pytest.raises(TrainingError) as caught:
        train_steps(second)
    assert str(caught.value) == (
        "`df_index` needs the engine that has this index. Give the `engine`."
    )
    assert not Path(second.output).exists()


def test_an_idf_of_ones_own(config: TrainConfig, tmp_path: Path) -> None:
    table = tmp_path / "idf.json"
    table.write_text(json.dumps({CONTENT[0]: 2.5, "unheard-of": 1.0}))
    config = replace(config, kind="idf", idf=str(table))
    list(train_steps(config))
    (row,) = load_query_encoder(config.output).encode([f"{CONTENT[0]} {CONTENT[1]}"])
    assert row.weights.tolist() == [2.5]
    for text, said in (
        ("[]", "there are no weights of tokens in it"),
        (
            '{"unheard-of": 1}',
            "there is no token of the model in it. Use an IDF that was made for the tokens of ",
        ),
    ):
        table.write_text(text)
        with pytest.raises(TrainingError, match=said):
            next(train_steps(replace(config, output=f"{config.output}2")))


def test_a_signal_saves_and_says_how_to_go_on(config: TrainConfig, tmp_path: Path) -> None:
    list(train_steps(config))
    stopped = replace(config, output=str(tmp_path / "stopped"))
    with stop_event() as stop:
        run = train_steps(stopped, stop=stop)
        while next(run).step < 2:  # before the first checkpoint of step 4
            pass
        signal.raise_signal(signal.SIGTERM)
        assert next(run).step == 3
        with pytest.raises(Interrupted) as caught:
            next(run)
    assert str(caught.value) == (
        f"Stopped at step 3 of 8; the run is saved in {stopped.output}. "
        "Continue with the same settings and `resume`."
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    list(train_steps(stopped, resume=True))
    whole, resumed = weights(config.output), weights(stopped.output)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("last", [True, False])
def test_a_signal_in_the_step_of_an_evaluation_does_not_skip_it(
    config: TrainConfig, beir_folder: Path, tmp_path: Path, last: bool
) -> None:
    config = replace(config, dev=str(beir_folder), steps=4, save_every=4 if last else 2)
    list(train_steps(config))
    stopped = replace(config, output=str(tmp_path / "stopped"))
    stop = threading.Event()
    run = train_steps(stopped, stop=stop)
    while next(run).step < (3 if last else 1):
        pass
    stop.set()
    assert next(run).dev
    with pytest.raises(Interrupted):
        next(run)
    list(train_steps(stopped, resume=True))
    whole, resumed = weights(config.output), weights(stopped.output)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    reports = [json.loads(Path(c.output, "training.json").read_text()) for c in (config, stopped)]
    figures = [[(e["step"], e["dev"]) for e in report["history"]] for report in reports]
    assert figures[0] == figures[1]


def test_a_ramp_longer_than_the_run_is_refused(config: TrainConfig) -> None:
    with pytest.raises(TrainingError) as caught:
        next(train_steps(replace(config, ramp=8, ramp_delay=1)))
    assert str(caught.value) == (
        "A ramp that ends at step 9 of a run of 8 would never reach its weights. "
        "Shorten `ramp` or `ramp_delay`."
    )
    assert next(train_steps(replace(config, ramp=7, ramp_delay=1))).step == 1


def test_what_a_kill_left_of_a_save_goes_when_the_run_goes_on(config: TrainConfig) -> None:
    run = train_steps(config)
    while next(run).step < 4:
        pass
    run.close()
    Path(config.output, ".partabc").mkdir()
    Path(config.output, ".partabc", "model.safetensors").write_bytes(b"half")
    Path(config.output, f".{CHECKPOINT}.123.tmp").write_bytes(b"half")
    list(train_steps(config, resume=True))
    assert not list(Path(config.output).glob(".*"))


def test_epochs_and_early_stopping(
    config: TrainConfig, beir_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = list(train_steps(replace(config, epochs=1.5, steps=None)))  # ten examples, five a batch
    assert log[-1].step == log[-1].steps == 3
    figures = iter([0.5, 0.9, 0.7, 0.8, 0.95])
    monkeypatch.setattr(DevSet, "measure", lambda *_: {"nDCG@10": next(figures)})
    config = replace(
        config, output=f"{config.output}2", dev=str(beir_folder), steps=20, save_every=2, patience=2
    )
    log = list(train_steps(config))
    assert log[-1].step == 8 and not Path(config.output, CHECKPOINT).exists()
    report = json.loads(Path(config.output, "training.json").read_text())
    assert [entry["dev"]["nDCG@10"] for entry in report["history"]] == [0.5, 0.9]
    assert "| nDCG@10 | 0.9000 |" in Path(config.output, "README.md").read_text()


def test_scalars_for_tensorboard(config: TrainConfig, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(train_steps(replace(config, tensorboard=str(tmp_path / "board"))))
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 9))
    assert {"train/doc_lambda", "train/query_terms", "train/lr"} <= set(events.Tags()["scalars"])


def test_warnings_name_the_remedy(config: TrainConfig, make_masked_lm: Callable[..., str]) -> None:
    dense = next(train_steps(replace(config, model=make_masked_lm(bias=5.0))))
    assert dense.warnings == (
        "queries are dense (50 of 55 terms active): raise `query_lambda` without `ramp`, or set "
        "`query_terms`",
        "documents are dense (50 of 55 terms active): raise `doc_lambda` without `ramp`, or set "
        "`doc_terms`",
    )
    silent = next(
        train_steps(replace(config, model=make_masked_lm(bias=-50.0), output=f"{config.output}2"))
    )
    assert [warning.partition(":")[0] for warning in silent.warnings] == [
        "queries have almost no active terms (0.0)",
        "documents have almost no active terms (0.0)",
    ]
    result = StepResult(torch.zeros(4), torch.tensor([0.0, 64.0, 3.0, 64.0]), 64)
    assert find_problems(1.0, 2.0, [result], ["a", "b", "c", "d"]) == [
        "2 terms are active in every document ('b', 'd'): each query with one of them reads the "
        "whole index; raise `doc_lambda`, or set `doc_regularizer` to df_flops"
    ]


def test_accumulation_takes_the_mean_of_its_batches(config: TrainConfig, tmp_path: Path) -> None:
    """With both halves of the data in one step, their order cannot matter to the first step."""
    one = replace(config, steps=1, accumulate=2, save_every=1, warmup=0.0)
    list(train_steps(one))
    two = replace(one, output=str(tmp_path / "two"), steps=2, accumulate=1, save_every=1)
    list(train_steps(two))
    name = "bert.embeddings.word_embeddings.weight"
    start = weights(config.model)[name]
    # Adam's first step has length lr whatever the gradient: one step moves less far than two
    assert (weights(one.output)[name] - start).abs().max() < 1.1 * config.lr
    assert (weights(two.output)[name] - start).abs().max() > 1.2 * config.lr


def test_resuming_with_other_settings_is_refused(config: TrainConfig) -> None:
    run = train_steps(config)
    while next(run).step < 5:
        pass
    run.close()
    with pytest.raises(TrainingError) as caught:
        next(train_steps(replace(config, lr=1e-3), resume=True))
    assert "the interrupted run had other settings (lr). Give the same ones" in str(caught.value)


def test_resuming_with_another_model_or_other_data_is_refused(
    config: TrainConfig, tmp_path: Path
) -> None:
    model = tmp_path / "start"
    shutil.copytree(config.model, model)
    config = replace(config, model=str(model))
    run = train_steps(config)
    while next(run).step < 5:
        pass
    run.close()
    lines = Path(config.data).read_text()
    Path(config.data).write_text(lines + lines.splitlines()[0] + "\n")
    with pytest.raises(TrainingError) as caught:
        next(train_steps(config, resume=True))
    assert str(caught.value) == (
        f"{config.data}: 11 examples, but the interrupted run had 10. "
        "Give the same data, or start again in another `output`."
    )
    Path(config.data).write_text(lines)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 0}))
    with pytest.raises(TrainingError) as caught:
        next(train_steps(config, resume=True))
    assert str(caught.value) == (
        f"{config.output}: the checkpoint is of another model than {model} is now. "
        "Give the model that the run started from, or start again in another `output`."
    )


def test_a_kill_between_checkpoint_and_model_is_mended(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EncoderPair, "save", killed)
        list(train_steps(config))
    assert Path(config.output, CHECKPOINT).is_file()
    assert not Path(config.output, "model.safetensors").exists()
    rest = train_steps(config, resume=True)
    next(rest)
    at_four = weights(config.output)
    rest.close()
    whole = replace(config, output=f"{config.output}-whole")
    run = train_steps(whole)
    while next(run).step < 4:
        pass
    run.close()
    assert all(torch.equal(at_four[name], w) for name, w in weights(whole.output).items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": []}, "checkpoint is damaged"),
        ({"config": {}}, "had other settings (data, model, "),
        ({"config": None}, "checkpoint is damaged"),
        ({"examples": "20"}, "checkpoint is damaged"),
        ({"step": None}, "checkpoint is damaged"),
        ({"history": 1}, "checkpoint is damaged"),
        ({"stepper": None}, "checkpoint is damaged"),
        ({"more": 1}, "checkpoint is damaged"),
        ({"stepper": {}}, "is of another model"),
        ({"stepper": {"model": 5}}, "is of another model"),
        ({"stepper": {"model": []}}, "is of another model"),
        ({"optimizer": []}, "is of another model"),
        ({"optimizer": {"state": 1, "param_groups": 2}}, "is of another model"),
        ({"objective": []}, "is of another model"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(
    config: TrainConfig, change: dict[str, Any], said: str
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        list(train_steps(config, stop=stop))
    path = Path(config.output, CHECKPOINT)
    record = torch.load(path, weights_only=True)
    (name,) = change
    inner = record["stepper"] if name in record["stepper"] else record
    inner.update(change)
    torch.save(record, path)
    with pytest.raises(TrainingError) as caught:
        list(train_steps(config, resume=True))
    assert said in str(caught.value)


def test_nothing_to_resume_and_an_output_in_use(config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"there is no interrupted run. Leave out `resume`"):
        next(train_steps(config, resume=True))
    Path(config.output).mkdir()
    Path(config.output, "thesis.txt").write_text("mine")
    with pytest.raises(TrainingError, match=r"the output directory is not empty. Choose another"):
        next(train_steps(config))
    Path(config.output, "checkpoint.pt").write_text("cut short")
    with pytest.raises(TrainingError, match=r"checkpoint is damaged. Start again in another"):
        next(train_steps(config, resume=True))
    assert Path(config.output, "thesis.txt").read_text() == "mine"


def test_numbers_that_go_bad_stop_the_run_and_keep_the_checkpoint(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    infonce = LOSSES["infonce"]

    def poisoned(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return infonce(*args) * (float("nan") if calls == 6 else 1.0)

    monkeypatch.setitem(LOSSES, "infonce", poisoned)
    with pytest.raises(TrainingError) as caught:
        list(train_steps(config))
    assert str(caught.value) == (
        "the loss is nan at step 6, so training stopped; the checkpoint of step 4 is in "
        f"{config.output}. Lower `lr`, or set `precision` to fp32."
    )
    assert all(t.isfinite().all() for t in weights(config.output).values())
    monkeypatch.undo()
    assert list(train_steps(config, resume=True))[-1].step == 8


def test_a_run_that_diverges_never_saves_what_is_no_number(config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"at step 2, so training stopped; the checkpoint of"):
        list(train_steps(replace(config, lr=1e30, warmup=0.0, save_every=1)))
    assert all(t.isfinite().all() for t in weights(config.output).values())


def test_the_best_checkpoint_is_kept(
    config: TrainConfig, beir_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.5, 0.9, 0.7])
    kept: list[dict[str, torch.Tensor]] = []

    def measure(self: DevSet, model: EncoderPair) -> dict[str, float]:
        kept.append({k: v.clone() for k, v in model.documents.state_dict().items()})
        return {"nDCG@10": next(figures), "RR@10": 0.0}

    monkeypatch.setattr(DevSet, "measure", measure)
    log = list(train_steps(replace(config, dev=str(beir_folder), steps=6, save_every=2)))
    assert [entry.best for entry in log if entry.dev] == [True, True, False]
    saved = SpladeModel.load(config.output).state_dict()
    assert all(torch.equal(saved[name], kept[1][name]) for name in saved)
    assert not all(torch.equal(saved[name], kept[2][name]) for name in saved)


def test_dev_measures_are_those_of_a_retrieval(config: TrainConfig, beir_folder: Path) -> None:
    log = list(train_steps(replace(config, dev=str(beir_folder), steps=1, save_every=1)))
    model = Encoder.load(config.output)
    documents = dict(zip(TEXTS, model.encode(TEXTS.values()), strict=True))
    total = 0.0
    for query, right in (("heart attack", "heart"), ("vitamin milk", "bone")):
        (row,) = model.encode([query])
        weight = dict(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
        scores = {
            id: sum(weight.get(i, 0.0) * w for i, w in zip(d.ids.tolist(), d.weights, strict=True))
            for id, d in documents.items()
        }
        ranked = sorted(scores, key=lambda id: -scores[id])
        total += 1 / (1 + ranked.index(right))
    assert log[-1].dev["RR@10"] == pytest.approx(total / 2)


def test_a_head_nobody_trained_is_calibrated(
    tmp_path: Path, make_masked_lm: Callable[..., str]
) -> None:
    source = make_masked_lm(bias=0.0)
    bare = tmp_path / "bare"
    AutoModelForMaskedLM.from_pretrained(source).bert.save_pretrained(bare)
    AutoTokenizer.from_pretrained(source).save_pretrained(bare)
    model = SpladeModel.load(str(bare))
    assert model.fresh_head
    calibrate(model, list(TEXTS.values()))
    inputs = model.tokenizer(list(TEXTS.values()), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.mlm.base_model(**inputs).last_hidden_state
        transformed = model.hidden(**inputs)
        active = (model(**inputs) > 0).float().sum(dim=1)
    # the transform is the identity but for the scale, which its LayerNorm sets
    assert torch.cosine_similarity(hidden, transformed, dim=-1).min() > 0.95
    assert active.mean() < 0.1 * len(model.vocabulary)
    config = ModernBertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(source)), hidden_size=32,
        intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, pad_token_id=0, cls_token_id=2, sep_token_id=3,
        bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    ModernBertModel(config).save_pretrained(bare)  # whose transform has no bias
    modern = SpladeModel.load(str(bare))
    calibrate(modern, list(TEXTS.values()))
    with torch.no_grad():
        assert 0 < (modern(**inputs) > 0).float().mean() < 0.1

    trained = SpladeModel.load(source)
    before = trained.decoder.bias.clone()
    calibrate(trained, list(TEXTS.values()))
    assert torch.equal(trained.decoder.bias, before)


def test_errors_are_raised_at_the_call(config: TrainConfig) -> None:
    with pytest.raises(TypeError, match="config must be TrainConfig, not str"):
        train_steps("config")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="no such file or folder"):
        train_steps(replace(config, data="none.jsonl"))
    assert not Path(config.output).exists()
    with pytest.raises(TrainingError, match="there is no interrupted run"):
        train_steps(config, resume=True)
    Path(config.output).write_text("a file")
    with pytest.raises(TrainingError, match="cannot be written"):
        train_steps(config)
