"""The commands as a person types them: whole outputs, exit codes, errors of one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import run
from models import TEXTS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.quantize import Quantizer

pytestmark = pytest.mark.usefixtures("home")


def error(*args: object, code: int = 1, stdin: str | None = None) -> str:
    """The one line of a command that must fail; after wrong usage there is a hint before it."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Local engine")]
    if code == 2:
        usage, hint, empty, *lines = lines
        assert usage.startswith(f"Usage: main {args[0]} [OPTIONS]") and not empty, result.stderr
        assert hint.startswith(f"Try 'main {args[0]} ")
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0].removeprefix("Error: ")


@pytest.fixture
def loaded(corpus_file: Path, tiny_model: str) -> str:
    result = run("index", corpus_file, "--model", tiny_model, "--index", "texts")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "texts: 5 read, 5 indexed (0 replaced an earlier one, 0 without any term), 0 rejected; "
    )
    return "texts"


def test_search_ranks_by_the_dot_product_of_query_and_stored_integers(
    corpus_file: Path, tiny_model: str, home: Path
) -> None:
    # a query alone is always encoded in this precision; documents in that of the hardware
    exact = ("--model", tiny_model, "--index", "texts", "--precision", "fp32")
    assert run("index", corpus_file, *exact).exit_code == 0
    encoder = Encoder.load(tiny_model, precision="fp32")
    stored = {}
    for id, row in zip(TEXTS, encoder.encode(TEXTS.values()), strict=True):
        quantized = Quantizer(100.0).quantize(row)
        stored[id] = dict(zip(quantized.ids.tolist(), quantized.values.tolist(), strict=True))
    for text in ("heart attack", "vitamin for the eye"):
        (row,) = encoder.encode([text])
        query = list(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
        expected = {
            id: sum(weight / 100 * features.get(term, 0) for term, weight in query)
            for id, features in stored.items()
        }
        result = run("search", text, "--index", "texts", "-k", 3, "--json")
        hits = [json.loads(line) for line in result.stdout.splitlines()]
        assert [hit["rank"] for hit in hits] == [1, 2, 3]
        assert [hit["id"] for hit in hits] == sorted(expected, key=lambda id: -expected[id])[:3]
        assert [hit["score"] for hit in hits] == pytest.approx(
            sorted(expected.values(), reverse=True)[:3], rel=1e-5
        )
        assert hits[0]["source"]["text"] == TEXTS[hits[0]["id"]]
        assert "splade" not in hits[0]["source"]
        assert result.stderr == f"Local engine in {home} (--url names a server).\n"


def test_search_prints_rank_score_id_and_snippet(loaded: str) -> None:
    lines = run("search", TEXTS["eye"], "--index", loaded, "-k", 1).stdout.splitlines()
    assert len(lines) == 2
    rank, score, id = lines[0].split()
    assert rank == "1." and float(score) > 0 and lines[1].strip() == TEXTS[id]


def test_evaluate_prints_measures_beside_bm25(
    loaded: str, beir_folder: Path, tmp_path: Path
) -> None:
    trec = tmp_path / "out.trec"
    args = ("evaluate", beir_folder, "--index", loaded, "--measures", "nDCG@10 RR", "-k", 10)
    result = run(*args, "--baseline", "bm25", "--output", trec, "--json")
    record = json.loads(result.stdout)
    assert record["queries"] == 2
    assert record["bm25"] == {"nDCG@10": 1.0, "RR": 1.0}  # the words are in the right text only
    assert 0 < record["measures"]["nDCG@10"] <= 1
    assert {line.split()[0] for line in trec.read_text().splitlines()} == {"q1", "q2"}
    table = run(*args, "--baseline", "bm25").stdout
    assert table.splitlines()[0].strip() == "texts, test: 2 queries"
    assert "BM25" in table and f"{record['measures']['RR']:.4f}" in table


def test_a_cutoff_needs_as_many_results(loaded: str, beir_folder: Path) -> None:
    assert error("evaluate", beir_folder, "--index", loaded, "-k", 100, code=2) == (
        "-k is 100, which is too few results for a cutoff of 1000"
    )


def test_a_damaged_index_can_be_deleted(loaded: str, home: Path) -> None:
    (home / loaded / "features.jsonl").write_text("damaged\n")
    assert "is damaged" in error("info", "--index", loaded)
    result = run("delete", "--index", loaded, "--yes")
    assert result.exit_code == 0
    assert result.stdout == "Deleted texts (documents that cannot be counted).\n"
    assert run("info").stdout.splitlines()[1:] == []


def test_expand(tiny_model: str) -> None:
    lines = run("expand", "vitamin milk", "--model", tiny_model, "--tokens", 3, "--json").stdout
    tokens = [json.loads(line) for line in lines.splitlines()]
    assert len(tokens) == 3
    assert all(token["stored"] == round(100 * token["weight"]) for token in tokens)
    table = run("expand", "vitamin milk", "--model", tiny_model, "--tokens", 3, "--query").stdout
    assert tokens[0]["token"] in table and "stored" not in table


def test_info_and_delete(loaded: str, tiny_model: str, home: Path) -> None:
    assert run("info").stdout.splitlines()[1:] == ["  texts"]
    record = json.loads(run("info", "--index", loaded, "--json").stdout)
    assert record["engine"] == "local" and record["documents"] == 5
    assert record["model"] == tiny_model and record["scale"] == 100.0 and record["bytes"] > 0
    assert "rank_features" not in record["where"]
    assert error("delete", "--index", loaded, code=2) == (
        "Nobody can be asked here: confirm with --yes."
    )
    result = run("delete", "--index", loaded, "--yes")
    assert result.stdout == "Deleted texts (5 documents).\n"
    assert error("info", "--index", loaded).startswith("There is no index 'texts' on ")


def test_loading_again_replaces_and_recreate_starts_anew(
    loaded: str, corpus_file: Path, tiny_model: str, tmp_path: Path
) -> None:
    again = run("index", corpus_file, "--model", tiny_model, "--index", loaded, "--json")
    assert (json.loads(again.stdout)["unchanged"], json.loads(again.stdout)["indexed"]) == (5, 0)
    one = tmp_path / "one.jsonl"
    one.write_text('{"id": 1, "contents": "milk", "title": "bone", "tag": "x"}\n')
    run("index", one, "--model", tiny_model, "--index", loaded, "--recreate")
    hits = run("search", "milk", "--index", loaded, "--json").stdout.splitlines()
    assert [json.loads(hit)["source"]["tag"] for hit in hits] == ["x"]


def test_bad_lines_are_set_aside_and_the_rest_is_indexed(tmp_path: Path, tiny_model: str) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_bytes(
        b'{"_id": "1", "text": "heart"}\n{"_id": "2"}\n{"_id": "3", "text": ""}\n{broken\n'
        b'{"_id": "1", "text": "bone"}\n{"_id": "4", "text": "\xff"}\n'
        + b'{"_id": "%s", "text": "long"}\n' % (b"x" * 513)
        + b'{"_id": "", "text": "a"}\n'
    )
    args = ("index", corpus, "--model", tiny_model, "--index", "bad")
    assert error(*args) == (
        f"5 of 8 lines were rejected, the first at {corpus}:2: no text; give each line a "
        '"text" or "contents". All are in corpus.jsonl.rejects.jsonl with their reasons: '
        "correct these lines and give them again."
    )
    rejects = [json.loads(x) for x in Path(f"{corpus}.rejects.jsonl").read_text().splitlines()]
    assert [reject["place"] for reject in rejects] == [f"{corpus}:{n}" for n in (2, 4, 6, 7, 8)]
    assert rejects[0]["line"] == '{"_id": "2"}'
    again = json.loads(run(*args, "--recreate", "--json").stdout)
    assert (again["read"], again["indexed"], again["replaced"]) == (8, 3, 1)
    assert (again["empty"], again["rejected"]) == (1, 5)
    # the last of a repeated id wins
    hits = run("search", "bone heart", "--index", "bad", "--json").stdout.splitlines()
    assert [json.loads(hit)["source"]["text"] for hit in hits] == ["bone"]
    assert error(*args, "--fail-fast").startswith(f"{corpus}:2: no text; give each line")


def test_a_weight_that_no_engine_takes_is_an_error_not_a_loss(
    corpus_file: Path, tiny_model: str
) -> None:
    assert error("index", corpus_file, "--model", tiny_model, "--index", "x", "--scale", "nan") == (
        "The scale of stored weights is nan. Set it above 0."
    )


def test_saturated_weights_are_reported(corpus_file: Path, tiny_model: str) -> None:
    result = run("index", corpus_file, "--model", tiny_model, "--index", "x", "--scale", "9999")
    assert result.exit_code == 0
    assert "weights were too large and were clipped: encode again with a smaller" in result.stderr


def test_rejects_that_cannot_be_written(corpus_file: Path, tiny_model: str) -> None:
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x")
    assert error(*args, "--rejects", "nowhere/r.jsonl") == (
        "nowhere/r.jsonl: cannot be written (No such file or directory). "
        "Name another file for bad lines with --rejects."
    )

    assert "There is no index 'x'" in error("info", "--index", "x")


def test_rejects_of_an_earlier_load_stay_until_there_are_new_ones(
    corpus_file: Path, tiny_model: str, tmp_path: Path
) -> None:
    rejects = tmp_path / "corpus.jsonl.rejects.jsonl"
    rejects.write_text("being mended")
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x")
    assert run(*args).exit_code == 0
    assert rejects.read_text() == "being mended"
    with corpus_file.open("a") as file:
        file.write('{"_id": "6", "text": "x", "\\ud800": 1, "\\ud800": 2}\n')
    assert "the first at" in error(*args)
    assert json.loads(rejects.read_text())["reason"] == '"\ud800" is given twice; keep one'
    assert list(tmp_path.glob(".*.tmp")) == []


def test_recreate_with_a_wrong_field_type_deletes_nothing(
    loaded: str, corpus_file: Path, tiny_model: str
) -> None:
    args = ("index", corpus_file, "--model", tiny_model, "--index", loaded, "--recreate")
    assert error(*args, "--field-type", "sparse_vector") == (
        "local has no field type sparse_vector for features. Leave out --field-type."
    )
    assert json.loads(run("info", "--index", loaded, "--json").stdout)["documents"] == 5


def test_rejects_do_not_overwrite_the_corpus(corpus_file: Path, tiny_model: str) -> None:
    text = corpus_file.read_text()
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x")
    assert error(*args, "--rejects", corpus_file, code=2) == (
        f"--rejects would overwrite the corpus {corpus_file}"
    )
    assert corpus_file.read_text() == text


def test_standard_input(tiny_model: str) -> None:
    line = '{"_id": "1", "text": "heart"}\n'
    args = ("index", "-", "--model", tiny_model, "--index", "piped")
    assert error(*args, "--resume", code=2, stdin=line) == (
        "Standard input is resumed with the --journal of the first run"
    )
    result = run(*args, stdin=line)
    assert result.exit_code == 0 and "1 indexed" in result.stdout


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "The query is empty. Type some words."),
        ("  ", "The query is empty. Type some words."),
        (
            "caf\udce9",
            "The text is not UTF-8 at character 4. Set the terminal, or the script, to UTF-8.",
        ),
        ("[CLS] [SEP]", "The model finds no term in the query '[CLS] [SEP]'. Use other words."),
    ],
)
def test_queries_without_words(loaded: str, query: str, said: str) -> None:
    assert error("search", query, "--index", loaded) == said


@pytest.mark.parametrize("k", [0, 20_000])
def test_k_out_of_range(loaded: str, k: int) -> None:
    assert error("search", "heart", "--index", loaded, "-k", k) == (
        f"k is {k}. Ask for 1 to 10,000 results."
    )


def test_what_is_not_there(
    loaded: str, corpus_file: Path, beir_folder: Path, tiny_model: str, tmp_path: Path
) -> None:
    assert error("search", "heart", "--index", "none").startswith("There is no index 'none' on ")
    assert error("index", "none.jsonl", "--model", tiny_model, "--index", "x") == (
        "none.jsonl: no such file. Check the path, or use - for standard input."
    )
    assert error("index", corpus_file, "--model", tmp_path / "m", "--index", "x") == (
        f"{tmp_path / 'm'}: no such directory. Name a model directory or a hub model."
    )
    assert error("info", "--index", "x").startswith("There is no index 'x' on ")  # not half made
    assert error("evaluate", beir_folder, "--index", loaded, "--split", "train") == (
        f'{beir_folder}: no judgements for split "train". There are: dev, test.'
    )
    assert error("evaluate", beir_folder, "--index", loaded, "--measures", "nDGC@10").startswith(
        'unknown measure: "nDGC@10". Some there are: '
    )
    assert error("info", "--url", "http://127.0.0.1:9").count("\n") == 0


def test_an_empty_corpus_replaces_no_index(loaded: str, tiny_model: str, tmp_path: Path) -> None:
    corpus = tmp_path / "empty.jsonl"
    corpus.write_text("\n")
    assert error("index", corpus, "--model", tiny_model, "--index", loaded, "--recreate") == (
        f"{corpus}: no documents in it. Check the file."
    )
    assert json.loads(run("info", "--index", loaded, "--json").stdout)["documents"] == 5


def test_another_model_is_refused(
    loaded: str, corpus_file: Path, make_masked_lm: Callable[..., str], tiny_model: str
) -> None:
    other = make_masked_lm(seed=1)
    said = (
        f"The index 'texts' was made with another model ({tiny_model}). "
        "Use that model and its settings, or index again with"
    )
    assert error("search", "heart", "--index", loaded, "--model", other) == f"{said} recreate."
    to = ("--index", loaded)
    assert error("index", corpus_file, "--model", other, *to) == f"{said} --recreate."
    length = error(
        "index", corpus_file, "--model", tiny_model, "--index", loaded, "--doc-length", 9
    )
    assert length.startswith("The index 'texts' was made with max_length 64 (")


def test_a_model_that_has_moved(corpus_file: Path, tiny_model: str, tmp_path: Path) -> None:
    import shutil

    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(tiny_model, first)
    run("index", corpus_file, "--model", first, "--index", "moved")
    first.rename(second)
    assert error("search", "heart", "--index", "moved") == (
        "The index 'moved' was made by a model that cannot be loaded: "
        f"{first}: no such directory. Set --model to its present place."
    )
    assert run("search", "heart", "--index", "moved", "--model", second).exit_code == 0


def test_train_writes_a_model_that_indexes(
    corpus_file: Path, tiny_model: str, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"query": "chest", "positive": "heart"}\n{"query": "bone", "positive": "milk"}\n'
    )
    (tmp_path / "c.yaml").write_text("steps: 2\nlr: 1e-3\ndoc_length: 16\n")
    out = tmp_path / "model"
    args = ("train", pairs, "--model", tiny_model, "--output", out, "--config", tmp_path / "c.yaml")
    result = run(*args, "--steps", 3)
    assert result.exit_code == 0 and result.stdout == f"Trained {out}.\n"
    assert "step 3/3  loss " in result.stderr and "steps/s" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Next: splade-es index CORPUS --model ")
    settings = json.loads((out / "training.json").read_text())
    assert (settings["steps"], settings["lr"], settings["doc_length"]) == (3, 1e-3, 16)
    assert run("index", corpus_file, "--model", out, "--index", "own").exit_code == 0
    assert error(*args) == (f"{out}: the output directory is not empty. Choose another --output.")
    assert error("train", pairs, "--model", tiny_model, "--output", pairs) == (
        f"{pairs}: cannot be written (File exists). Choose another --output."
    )
    assert run("train", pairs, "--model", tiny_model).exit_code == 2  # wrong usage


def interrupted(tmp_path: Path, *args: object, wait_for: Callable[[], bool]) -> tuple[int, str]:
    """Exit code and stderr of a command that gets Ctrl-C as soon as `wait_for` is true."""
    # a shell lets what it starts in the background ignore the signal, and children inherit that
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from splade_es.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while not wait_for() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def test_ctrl_c_while_training_saves_the_run(tiny_model: str, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"query": "chest", "positive": "heart"}\n{"query": "bone", "positive": "milk"}\n'
    )
    out = tmp_path / "model"
    args = ["train", pairs, "--model", tiny_model, "--output", out, "--steps", 10**6]
    code, stderr = interrupted(
        tmp_path,
        *args,
        *("--save-every", 1, "--doc-length", 16),
        wait_for=(out / "training.json").exists,
    )
    assert code == 130, stderr
    assert stderr.splitlines()[-1].endswith(
        f" of 1000000; the run is saved in {out}. Go on with the same command and --resume."
    )
    assert "Traceback" not in stderr and (out / "checkpoint.pt").is_file()
    assert run("expand", "heart", "--model", out).exit_code in (0, 1)  # it loads


def test_ctrl_c_while_indexing(tiny_model: str, tmp_path: Path, home: Path) -> None:
    corpus = tmp_path / "many.jsonl"
    with corpus.open("w") as file:
        for number in range(200_000):
            file.write(json.dumps({"_id": number, "text": "heart attack"}) + "\n")
    journal = tmp_path / "many.jsonl.many.journal"
    code, stderr = interrupted(
        tmp_path,
        *("index", corpus, "--model", tiny_model, "--index", "many"),
        wait_for=lambda: journal.exists() and journal.stat().st_size > 0,
    )
    assert code == 130 and "Traceback" not in stderr
    assert stderr.splitlines()[-1] == (
        "Interrupted: what was acknowledged is loaded. Continue with --resume."
    )
    assert run("info", "--index", "many", "--json").exit_code == 0
