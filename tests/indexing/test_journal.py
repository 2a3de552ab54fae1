"""What a load has done, read back after any end of it."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_es.data.rejects import rejects_file
from splade_es.errors import CorpusError
from splade_es.indexing.journal import Journal
from splade_es.indexing.journal_entries import Done, digest, runs
from splade_es.records import Document, Rejected

DOCUMENTS = [Document(f"d{n}", f"text {n}", place=f"c:{n}", number=n) for n in range(1, 10)]
BOUND = {"index": "x", "model": "m"}


def done(documents: list[Document], refused: dict[int, str] | None = None) -> Done:
    numbers = runs(d.number for d in documents)
    return Done(
        numbers,
        [],
        digest((d.id, d.content_hash("")) for d in documents),
        digest([]),
        len(documents),
        0,
        0,
        0,
        0,
        refused or {},
    )


def begun(path: Path, *entries: Done) -> None:
    journal = Journal.open(path)
    journal.bind(BOUND, {"documents": 0})
    for entry in entries:
        journal.record(entry)
    journal.close()


def remaining(path: Path, items: list[Document | Rejected], tmp_path: Path) -> list[str]:
    with (
        closing(Journal.open(path, resume=True)) as journal,
        rejects_file(tmp_path / "rejects") as rejects,
    ):
        left = list(journal.remaining(items, rejects))
    return [item.id if isinstance(item, Document) else item.line for item in left]


@given(st.sets(st.integers(1, 60)))
def test_runs_hold_each_number_once(numbers: set[int]) -> None:
    found = runs(sorted(numbers))
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(numbers)
    assert all(b[0] > a[1] + 1 for a, b in itertools.pairwise(found))


def test_what_is_done_is_left_out_and_what_was_refused_is_told_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    # two requests in flight at once: the later one was done first, and a bad line stands between
    begun(path, done(DOCUMENTS[5:7]), done([DOCUMENTS[0], DOCUMENTS[2]], {3: "server: no"}))
    items: list[Document | Rejected] = [*DOCUMENTS]
    items[1] = Rejected("c:2", "bad", "{broken")
    assert remaining(path, items, tmp_path) == ["{broken", "d4", "d5", "d8", "d9"]
    (reject,) = map(json.loads, (tmp_path / "rejects").read_text().splitlines())
    assert (reject["place"], reject["reason"]) == ("c:3", "server: no")
    assert json.loads(reject["line"])["_id"] == "d3"
    items[1] = DOCUMENTS[1]  # the line has been mended: it is loaded now
    assert remaining(path, items, tmp_path) == ["d2", "d4", "d5", "d8", "d9"]


def test_an_unchanged_document_stays_left_out(tmp_path: Path) -> None:
    """It came before another of the same id, which has been sent meanwhile."""
    path = tmp_path / "j"
    left_out = digest([("d1", DOCUMENTS[0].content_hash(""))])
    begun(path, replace(done(DOCUMENTS[2:4]), unchanged=[[1, 1]], unchanged_digest=left_out))
    items: list[Document | Rejected] = [*DOCUMENTS]
    assert remaining(path, items, tmp_path) == ["d2", *(d.id for d in DOCUMENTS[4:])]
    items[0] = Document("d1", "edited", place="c:1", number=1)
    with pytest.raises(CorpusError, match=r"^c:1: this document, or one before it, has changed"):
        remaining(path, items, tmp_path)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_cut_short_by_a_crash_never_was(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    begun(path, done(DOCUMENTS[:2]), done(DOCUMENTS[2:4]))
    path.write_bytes(path.read_bytes()[:-cut])
    items: list[Document | Rejected] = [*DOCUMENTS]
    assert remaining(path, items, tmp_path) == [d.id for d in DOCUMENTS[2:]]
    journal = Journal.open(path, resume=True)
    journal.record(done(DOCUMENTS[2:4]))
    journal.close()
    assert remaining(path, items, tmp_path) == [d.id for d in DOCUMENTS[4:]]


def test_a_corpus_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    begun(path, done(DOCUMENTS[:3]))
    changed: list[Document | Rejected] = [*DOCUMENTS]
    changed[1] = Document("d2", "another text", place="c:2", number=2)
    with pytest.raises(CorpusError, match=r"^c:3: this document, or one before it, has changed"):
        remaining(path, changed, tmp_path)
    with pytest.raises(CorpusError, match="The corpus has fewer documents than"):
        remaining(path, [DOCUMENTS[0]], tmp_path)


def test_a_journal_is_not_overwritten_and_fits_one_load_only(tmp_path: Path) -> None:
    path = tmp_path / "j"
    begun(path, done(DOCUMENTS[:3]))
    with pytest.raises(CorpusError, match=re.escape(
        f"{path}: an earlier load into 'x' ended after 3 documents. Continue it with `resume`, or "
        "delete this file to start over."
    )):  # fmt: skip
        Journal.open(path)
    journal = Journal.open(path, resume=True)
    with pytest.raises(CorpusError, match="this load was begun with another model"):
        journal.bind({"index": "x", "model": "other"}, {})
    journal.bind(BOUND, {"documents": 99})
    assert journal.header["documents"] == 0
    with pytest.raises(CorpusError, match="another process is loading this corpus"):
        Journal.open(path, resume=True)
    journal.close()
    content = path.read_bytes()
    journal = Journal.open(path, recreate=True)
    assert not journal.header
    journal.close()
    assert path.read_bytes() == content  # the new load had not begun
    journal = Journal.open(path, recreate=True)
    journal.bind(BOUND, {"documents": 7})
    journal.close()
    journal = Journal.open(path, resume=True)
    assert journal.header["documents"] == 7 and not journal.done
    journal.finish()
    assert not path.exists()


@pytest.mark.parametrize(
    "content", ["no JSON\n", "[1]\n", "{}\n", '{"index": "x"}\n{"numbers": 1}\n']
)
def test_another_file_is_no_journal(tmp_path: Path, content: str) -> None:
    path = tmp_path / "j"
    path.write_text(content)
    with pytest.raises(CorpusError, match="not a journal of splade-es"):
        Journal.open(path, resume=True)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"the journal cannot be written .* `journal`"):
        Journal.open(tmp_path / "nowhere" / "j")


def test_a_killed_process_releases_its_journal_and_leaves_no_file_behind(tmp_path: Path) -> None:
    path = tmp_path / "j"
    holder = (
        "import sys, time\nfrom pathlib import Path\n"
        "from splade_es.indexing.journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1]))\n"
        "journal.bind({'index': 'x', 'model': 'm'}, {'documents': 0})\n"
        "print('open', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "open\n"
        with pytest.raises(CorpusError, match=f"^{re.escape(str(path))}: another process is load"):
            Journal.open(path, resume=True)
        process.kill()
    journal = Journal.open(path, resume=True)
    assert journal.header["index"] == "x"
    assert list(tmp_path.iterdir()) == [path]  # what locks it is the file itself
    journal.finish()
    journal.close()
    assert not list(tmp_path.iterdir())
