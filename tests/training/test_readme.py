"""The Python of training's README runs as it stands, but for names of models and a short run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from any_engine import write_corpus
from models import TEXTS

README = Path(__file__).parents[2] / "training" / "README.md"


def test_the_python_of_the_readme(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus.jsonl"), TEXTS)
    pairs = [{"query": text.split()[1], "positive": text} for text in TEXTS.values()]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    code = "\n".join(blocks)
    for shown, real in (
        ("distilbert-base-uncased", tiny_model),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", tiny_model),
        ("splade_es.connect()", f"splade_es.connect('local:{tmp_path}/indices')"),
        ('output="model")', 'output="model", steps=2, doc_length=64)'),
        ('"second", ', '"second", steps=2, doc_length=64, '),
    ):
        assert shown in code
        code = code.replace(shown, real)
    names: dict[str, object] = {}
    exec(code, names)
    result = names["result"]
    assert result.step == 2  # type: ignore[attr-defined]
    assert Path("second", "model.safetensors").is_file()
