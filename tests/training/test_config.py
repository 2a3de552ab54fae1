"""Settings of a run: what is checked, and what a configuration file may say."""

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from splade_es.errors import TrainingError
from splade_es.training.config import TrainConfig
from splade_es.training.config_file import read_config
from splade_es.training.formats import FORMATS
from splade_es.training.settings import SECTIONS


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"steps": 0}, "`steps` must be at least 1, not 0"),
        ({"lr": float("nan")}, "`lr` must be above 0, not nan"),
        ({"warmup": 1.0}, "`warmup` must be at least 0 and below 1, not 1.0"),
        ({"df_alpha": 0.0}, "`df_alpha` must be above 0 and below 1, not 0.0"),
        ({"clip": float("inf")}, "`clip` must be above 0, not inf"),
        ({"doc_length": 2}, "`doc_length` must be at least 3, not 2"),
        ({"steps": 3, "epochs": 1.0}, "Give `steps` or `epochs`, not both"),
        (
            {"loss": "kl=1,mse=2"},
            "`loss` must be a sum like kl=1,margin_mse=0.05 of infonce, margin_mse, kl, not "
            "kl=1,mse=2",
        ),
        ({"kind": "dense"}, "`kind` must be one of splade, separate, doc, idf, lexical, not dense"),
        (
            {"batch_size": 1},
            "`batch_size` must be at least 2, not 1. infonce compares the texts of a batch.",
        ),
        (
            {"query_model": "q"},
            "`kind` must be separate where `query_model` is given, not splade. Leave out "
            "`query_model`, or choose that kind.",
        ),
        (
            {"kind": "idf", "freeze_documents": True},
            "Nothing is left to train. Set `learn_idf`, or leave out `freeze_documents`.",
        ),
        (
            {"kind": "idf", "query_terms": 20.0},
            "`query_terms` is given, but queries are not trained. Leave it out.",
        ),
        (
            {"doc_terms": 100.0, "doc_lambda": 0.0},
            "`doc_lambda` must be above 0 where `doc_terms` is given, not 0.0. The weight is "
            "adjusted by factors.",
        ),
        (
            {"doc_terms": 100.0, "doc_threshold": 150},
            "`doc_threshold` must be below `doc_terms`, not 150. There is no regularizer for "
            "documents with fewer terms than the threshold.",
        ),
        (
            {"doc_terms": 100.0, "query_terms": 20.0, "ramp": 5},
            "`ramp` must be 0 where `query_terms` and `doc_terms` are given, not 5. Both weights "
            "are adjusted from the first step on.",
        ),
        (
            {"patience": 3},
            "`patience` is 3, but there is no dev set. Set `dev`, or leave out `patience`.",
        ),
        (
            {"df_index": "a"},
            "`df_index` is a, but there is no regularizer df_flops. Leave it out, or set "
            "`doc_regularizer` or `query_regularizer` to df_flops.",
        ),
    ],
)
def test_settings_are_checked(setting: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        TrainConfig(data="d", model="m", output="o", **setting)  # type: ignore[arg-type]
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"steps": 1.5}, "steps must be int or None, not float"),
        ({"steps": True}, "steps must be int or None, not bool"),
        ({"lr": "1e-4"}, "lr must be float, not str"),
        ({"data": None}, "data must be str or a path, not NoneType"),
        ({"kind": 3}, "kind must be str, not int"),
        ({"dev": 3}, "dev must be str or a path or None, not int"),
    ],
)
def test_a_wrong_type_is_named(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        TrainConfig(**{"data": "d", "model": "m", "output": "o", **setting})
    assert str(caught.value) == said


def test_paths_become_strings(tmp_path: Path) -> None:
    config = TrainConfig(data=tmp_path / "d", model=tmp_path, output=tmp_path / "o", dev=tmp_path)
    paths = (config.data, config.model, config.output, config.dev)
    assert paths == (f"{tmp_path}/d", str(tmp_path), f"{tmp_path}/o", str(tmp_path))
    assert config == TrainConfig(f"{tmp_path}/d", str(tmp_path), f"{tmp_path}/o", dev=str(tmp_path))


def test_every_setting_says_what_it_is() -> None:
    assert TrainConfig.__doc__
    for field in fields(TrainConfig):
        assert field.metadata["section"] in SECTIONS
        assert field.metadata["help"].endswith(".") and "`" not in field.metadata["help"]
        assert f"\n{field.name} : " in TrainConfig.__doc__
        if field.name == "format":
            assert all(name in field.metadata["help"] for name in FORMATS)


def test_both_sides_show_their_settings() -> None:
    config = TrainConfig("d", "m", "o", kind="idf", query_length=7, doc_terms=9.0, doc_lambda=0.5)
    assert (config.query.name, config.query.length, config.query.trained) == ("query", 7, False)
    assert (config.doc.name, config.doc.terms, config.doc.lambda_) == ("doc", 9.0, 0.5)
    assert config.doc.trained and config.doc.regularizer == "flops"


def test_settings_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-4\nsteps: 20\nloss: kl\ndev: null\n")
    assert read_config(str(path)) == {"lr": 1e-4, "steps": 20, "loss": "kl", "dev": None}
    for text, said in (
        ("learning_rate: 1", "there is no setting 'learning_rate'. There are: data, model, output"),
        ("doc_term: 1", "there is no setting 'doc_term'. Did you mean doc_terms?"),
        ("learn_idf: 1", "learn_idf must be true or false, not 1"),
        ("steps: 1.5", "steps must be a number (int), not 1.5"),
        ("steps: .inf", "steps must be a number (int), not inf"),
        ("steps: many", "steps must be a number (int), not 'many'"),
        ("- 1", "there are no settings in it"),
        ("a: '", "not YAML ("),
        ("steps: " + "9" * 5000, "not YAML ("),
        ("steps: 0x" + "f" * 5000, "steps must be a number (int), not a number of many digits"),
        ("a: 2024-13-45", "not YAML ("),
    ):
        path.write_text(text)
        with pytest.raises(TrainingError) as caught:
            read_config(str(path))
        assert str(caught.value).startswith(f"{path}: {said}")
    with pytest.raises(TrainingError, match=r"No such file or directory. Give a YAML file, or a"):
        read_config(str(tmp_path / "none.yaml"))


LAUGHS = "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}' if before else 'ha'] * 9)}]"
    for before, name in zip(["", *"abcdefghijk"], "abcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LAUGHS, 1),
        ("lr: 1\nsteps: &a 2\nseed: *a", 3),
        ("lr: {<<: {a: 1}}", 1),
        ("\nlr: " + "[" * 40_000, 2),
        ("? " * 30_000, 1),
        ("lr:\n  - 1", 2),
    ],
)
def test_yaml_that_stands_for_more_than_settings_is_refused_at_once(
    tmp_path: Path, text: str, line: int
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(TrainingError) as caught:
        read_config(str(path))
    assert str(caught.value) == (
        f"{path}:{line}: a list, a mapping or an alias as a value. "
        "Write a number, a text, true or false."
    )
    path.write_text("#" * 200_000)
    with pytest.raises(TrainingError, match="more than 100,000 bytes, and settings take a thousan"):
        read_config(str(path))
    assert time.monotonic() - started < 5
