"""What the documentation shows runs as it stands, but for paths, the URL and the model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import splade_es
from any_engine import SERVERS, write_corpus
from models import TEXTS

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["local", "opensearch", "elasticsearch"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return f"local:{tmp_path / 'indices'}"
    found: str = request.getfixturevalue(SERVERS[request.param])
    return found


@pytest.mark.usefixtures("home")
def test_the_script_from_corpus_to_explained_hit(url: str, tiny_model: str) -> None:
    script = ROOT / "tests" / "examples" / "corpus_to_hit.py"
    done = subprocess.run(
        [sys.executable, script, tiny_model, url], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "5 of 5 documents in splade-es-example" in done.stdout
    assert "bm25 [('bone'," in done.stdout and "nutrition only ['sugar'" in done.stdout
    assert re.search(r"^\w+: \d+\.\d+, place (\d+|None) by BM25$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "splade_es/README.md"])
def test_the_python_of_a_readme(
    name: str,
    url: str,
    tiny_model: str,
    beir_folder: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S)
    assert blocks
    # the files that the examples name; `home` has made their folder the current one
    extra = {"d42": "A heart attack needs treatment.", **TEXTS}
    write_corpus(Path("corpus.jsonl"), extra)
    Path("scifact").symlink_to(beir_folder)
    pairs = [{"query": text.split()[1], "positive": text} for text in TEXTS.values()]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    code = "\n".join(blocks)
    for shown, real in (
        ("naver/splade-v3", tiny_model),
        ("distilbert-base-uncased", tiny_model),
        ("http://localhost:9200", url),
        ("splade_es.connect()", f"splade_es.connect({url!r})"),
        ('output="model")', 'output="model", steps=2, doc_length=64)'),
    ):
        code = code.replace(shown, real)
    with splade_es.connect(url) as engine:
        if engine.index("articles").exists():
            engine.index("articles").delete()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with splade_es.connect(url) as engine:
        engine.index("articles").delete()
    assert done.returncode == 0, done.stderr
    assert "heart" in done.stdout
