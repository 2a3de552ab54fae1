"""The demo's collection: questions and documents from docstrings."""

from __future__ import annotations

import email
import json
import re
from pathlib import Path

import pytest

from splade_es.cli.demo_data import (
    DemoCounts,
    Example,
    docstrings,
    example,
    examples,
    write_demo,
)
from splade_es.data.corpus import read_documents
from splade_es.data.trec_beir import open_beir
from splade_es.errors import CorpusError
from splade_es.records import Document

PROSE = (
    "The members of the archive are read one after the other, and each is checked against its "
    "checksum before anything is written to the target directory."
)


def test_the_first_sentence_is_the_question_and_the_rest_the_document() -> None:
    assert example(
        "zipfile.extract", f"Unpack the members, e.g. all, of an\narchive. It is safe.\n\n{PROSE}\n"
    ) == Example(
        "zipfile.extract", "Unpack the members, e.g. all, of an archive", f"It is safe. {PROSE}"
    )


def test_the_name_is_removed_from_the_document_as_a_whole_word() -> None:
    found = example(
        "m.archive", f"Unpack the members of something. Call archive().\n\n{PROSE} Archives"
    )
    assert found is not None
    assert found.text == f"Call . {PROSE.replace(' archive', '')} Archives"


@pytest.mark.parametrize(
    "listing",
    [
        "Parameters\n----------\nmembers : list\n    What to read.\n\nother : int\n    More of it.",
        "Examples\n========\n\nThis is how it is used:\n\n>>> unpack(1)\n2",
        "Args:\n    members (list): What to read.\n\n    other (int): More of it.",
        ":param members: What to read.\n:rtype: None",
        ".. versionadded:: 3.2\n   Nobody asks for this.",
        ">>> unpack(1)\n2",
        "    code = indented(1)",
        "+---+---+\n| 1 | 2 |\n+---+---+",
    ],
    ids=["numpy", "numpy examples", "google", "sphinx", "directive", "doctest", "code", "table"],
)
def test_lists_code_and_tables_are_left_out(listing: str) -> None:
    question = "Unpack the members of a file"
    found = example("m.f", f"unpack(members) -> None\n\n{question}.\n\n{PROSE}\n\n{listing}")
    assert found == Example("m.f", question, PROSE)


def test_prose_after_a_list_is_kept_and_markup_is_not() -> None:
    found = example(
        "m.f",
        "Unpack the members of a file.\n\nParameters\n----------\nx : int\n\nNotes\n-----\n"
        f"See :class:`~zipfile.ZipFile` or `this <http://host/>`_ or ``that`` [1]_. {PROSE}",
    )
    assert found is not None
    assert found.text == f"See zipfile.ZipFile or this_ or that . {PROSE}"


@pytest.mark.parametrize(
    "docstring",
    [
        "Unpack the members of a file.",
        "Unpack the members of a file.\n\nToo short to be an answer.",
        f"Too short.\n\n{PROSE}",
        f"{'Unpack ' * 41}.\n\n{PROSE}",
        f"Unpack the members of a file.\n\nUnpack the members of a file. {PROSE}",
        f"Unpack the members of a file.\n\n.. deprecated:: 3.2\n\n{PROSE}",
        f"Unpack the members of a file.\n\nArgs:\n    members: {PROSE}",
        "",
    ],
)
def test_a_docstring_without_both_parts_is_no_example(docstring: str) -> None:
    assert example("m.f", docstring) is None


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of two files, and one package that must not be imported."""
    folder = tmp_path / "lib"
    (folder / "test").mkdir(parents=True)
    (folder / "_vendored").mkdir()
    function = 'def {}():\n    """{}"""\n'

    def docstring(n: int) -> str:
        return f"Explain what number {n} is good for.\n\n{PROSE} See number{n}."

    source = "".join(function.format(f"f{n}", docstring(n)) for n in range(20))
    (folder / "numbers.py").write_text(
        f"{source}class C:\n    {function.format('g', docstring(98)).replace('    ', '        ')}\n"
        + function.format("_private", docstring(99))
    )
    (folder / "copies.py").write_text(source)
    (folder / "template.py").write_text("def {{ name }}: '''")
    for skipped in ("test/a.py", "_vendored/a.py"):
        (folder / skipped).write_text(function.format("h", docstring(97)))
    package = tmp_path / "never_imported"
    package.mkdir()
    (package / "__init__.py").write_text(f'"""{docstring(96)}"""\nraise SystemExit("imported")')
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def examples_of(library: Path) -> list[Example]:
    return examples(docstrings(("never_imported", "not_installed"), str(library)))


def test_modules_classes_and_functions_are_read_once_and_never_imported(library: Path) -> None:
    assert {item.id for item in examples_of(library)} == {
        "never_imported",
        "numbers.C.g",
        *(f"copies.f{n}" for n in range(20)),  # the same words in numbers.py come later
    }


def test_the_demo_is_a_beir_directory_with_training_pairs(library: Path, tmp_path: Path) -> None:
    found = examples_of(library)[:15]
    counts = write_demo(str(tmp_path / "demo"), found, test_questions=4, dev_questions=2)
    assert counts == DemoCounts(documents=15, train=9, dev=2, test=4)
    documents = {}
    for item in read_documents(str(tmp_path / "demo")):
        assert isinstance(item, Document)
        documents[item.id] = item.text
    assert len(documents) == 15
    splits = {name: open_beir(str(tmp_path / "demo"), name) for name in ("test", "dev")}
    lines = (tmp_path / "demo" / "train.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert all(documents[pair["positive_id"]] == pair["positive"] for pair in pairs)
    questions = {name: {query.text for query in queries} for name, (queries, _) in splits.items()}
    questions["train"] = {pair["query"] for pair in pairs}
    assert {name: len(texts) for name, texts in questions.items()} == {
        "test": 4,
        "dev": 2,
        "train": 9,
    }
    assert len(set.union(*questions.values())) == 15  # no question is in two splits
    for _, qrels in splits.values():
        assert all(judged == {query: 1} for query, judged in qrels.items())
        assert qrels.keys() <= documents.keys()


def test_the_same_machine_gives_the_same_bytes(library: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_demo(str(tmp_path / name), examples_of(library))
    for file in ("corpus.jsonl", "queries.jsonl", "train.jsonl", "qrels/test.tsv"):
        one, two = (tmp_path / name / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_directory_that_cannot_be_written_is_one_clear_line(
    library: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError) as caught:
        write_demo(str(tmp_path / "file"), examples_of(library))
    assert str(caught.value) == (
        f"{tmp_path}/file: cannot be written (Not a directory). "
        "Choose another directory, or free some space."
    )


def test_a_real_document_does_not_contain_its_question_or_name() -> None:
    found = examples(docstrings(("click",), str(Path(email.__file__).parent)))
    assert len(found) > 80
    for item in found:
        assert 5 <= len(item.question.split()) <= 40
        assert len(item.text.split()) >= 20
        assert item.question.lower() not in item.text.lower()
        own = re.escape(item.id.rpartition(".")[2])
        assert not re.search(rf"(?<!\w){own}(?!\w)", item.text, re.IGNORECASE)


@pytest.mark.slow
def test_this_machine_has_enough_documentation(tmp_path: Path) -> None:
    assert write_demo(str(tmp_path)) == DemoCounts(documents=6000, train=5600, dev=100, test=300)
    assert all(isinstance(item, Document) for item in read_documents(str(tmp_path)))
