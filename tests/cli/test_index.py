"""`splade-es index` as a person types it: whole outputs, errors of one line."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import error, interrupted, run

pytestmark = pytest.mark.usefixtures("home")


def test_loading_again_replaces_and_recreate_starts_anew(
    loaded: str, corpus_file: Path, tiny_model: str, tmp_path: Path
) -> None:
    again = run("index", corpus_file, "--model", tiny_model, "--index", loaded, "--json")
    assert (json.loads(again.stdout)["unchanged"], json.loads(again.stdout)["indexed"]) == (5, 0)
    one = tmp_path / "one.jsonl"
    one.write_text('{"id": 1, "contents": "milk", "title": "bone", "tag": "x"}\n')
    run("index", one, "--model", tiny_model, "--index", loaded, "--recreate", "--max-shrink", 1)
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
    recreate = (*args, "--recreate", "--json")
    assert error(*recreate).startswith("'bad' stays as it is, and the new index 'bad-")
    again = json.loads(run(*recreate, "--max-rejected", 5).stdout)
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
    mended = '{"place": "c:1", "reason": "broken", "line": "being mended"}\n'
    rejects.write_text(mended)
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x")
    assert run(*args).exit_code == 0
    assert rejects.read_text() == mended
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
        f"--rejects would overwrite the input {corpus_file}. Name another file."
    )
    assert corpus_file.read_text() == text


def test_standard_input(tiny_model: str) -> None:
    line = '{"_id": "1", "text": "heart"}\n'
    args = ("index", "-", "--model", tiny_model, "--index", "piped")
    assert error(*args, "--resume", code=2, stdin=line) == (
        "Standard input is resumed with the --journal of the first run"
    )
    gc.collect()  # the reader that was opened lets go of it in silence
    result = run(*args, stdin=line)
    assert result.exit_code == 0 and "1 indexed" in result.stdout


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
