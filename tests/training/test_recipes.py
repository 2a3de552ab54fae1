"""Each recipe is read, makes a run, and says where it comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from splade_es.training.config import TrainConfig
from splade_es.training.config_file import read_config, recipes
from splade_es.training.loop import train_steps

LINE = '{"query": "heart %d", "positive": "heart attack", "negatives": %s, "scores": %s}\n'


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_trains(name: str, tiny_model: str, tmp_path: Path) -> None:
    head = Path(recipes()[name]).read_text().partition("\nloss")[0]
    assert "# Needs: " in head and "Result: " in head
    data = tmp_path / "train.jsonl"
    negatives = [f"milk {n}" for n in range(8)]
    data.write_text(
        "".join(
            LINE % (n, str(negatives).replace("'", '"'), list(range(9, 0, -1))) for n in range(4)
        )
    )
    config = TrainConfig(
        **{
            **read_config(name),
            "data": str(data),
            "model": tiny_model,
            "output": str(tmp_path / "m"),
        }
    )
    if config.epochs is None:
        assert config.steps is not None and config.ramp < config.steps
    small = replace(
        config,
        steps=1,
        ramp=0,
        epochs=None,
        batch_size=2,
        accumulate=1,
        query_length=16,
        doc_length=16,
        precision="fp32",
    )
    assert [log.step for log in train_steps(small)] == [1]


def test_recipes_are_named_where_there_is_none() -> None:
    assert {"splade-max", "splade-v3", "inference-free-l0", "multilingual"} <= set(recipes())
