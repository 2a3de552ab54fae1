"""Loads, kills, edits and swaps in any order; after each step the index is what a model says."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import splade_es
from any_engine import SERVERS
from splade_es.indexing.journal import Journal
from words import WORDS, WordEncoder, contents

pytestmark = pytest.mark.usefixtures("home")

IDS = [f"d{n}" for n in range(40)]
BAD = ["no JSON", '{"_id": "x"}', '{"text": "no id"}', '{"_id": "", "text": "empty id"}']
# Settings with which the gate stops an empty index only.
LENIENT: dict[str, Any] = {
    "max_rejected": 10**6, "max_empty": 1.0, "max_shrink": 1.0, "request_bytes": 1500,
}  # fmt: skip
journal_finish = Journal.finish
Contents = dict[str, str]  # id -> text
SEED = st.integers(0, 10**6)
HOW = st.sampled_from(["plain", "resume", "resume", "recreate", "alias"])


def text_by(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randrange(8)))


class Loader(RuleBasedStateMachine):
    """One name, one corpus, one journal.

    contents: of each index that the name stood for, by its own name; before: the index that an
    alias pointed to before, by the name of the one that it points to.
    """

    engine: splade_es.Engine
    encoder: WordEncoder
    steps: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.name = f"machine-{uuid.uuid4().hex[:8]}"
        self.folder = Path(tempfile.mkdtemp())
        self.corpus = self.folder / "corpus.jsonl"
        self.journal = self.folder / f"corpus.jsonl.{self.name}.journal"
        self.lines: list[tuple[str, str]] = []
        self.current: str | None = None  # the index that the name stands for
        self.contents: dict[str, Contents] = {}
        self.before: dict[str, str] = {}
        self.begun_by_alias = False  # the load that the journal is of

    def teardown(self) -> None:
        for index in self.engine.indices():
            if index == self.name or index.startswith(self.name + "-"):
                self.engine.index(index).delete()
        shutil.rmtree(self.folder)

    # The corpus

    @initialize(count=st.integers(1, 60), seed=SEED)
    def begin(self, count: int, seed: int) -> None:
        self.change("append", count, seed)

    @rule(
        how=st.sampled_from(["append", "append", "edit", "edit", "remove", "spoil", "mend"]),
        count=st.integers(1, 30),
        seed=SEED,
    )
    def change(self, how: str, count: int, seed: int) -> None:
        self.steps[how] += 1
        draw = random.Random(seed)
        place = draw.randrange(len(self.lines) + 1)
        if how == "append":
            self.lines += [(draw.choice(IDS), text_by(draw)) for _ in range(count)]
        elif how == "edit" and self.lines[place:]:
            self.lines[place] = draw.choice(IDS), text_by(draw)
        elif how == "remove":
            del self.lines[place : place + count]
        elif how == "spoil":
            self.lines.insert(place, ("", draw.choice(BAD)))
        elif how == "mend":
            self.lines = [line for line in self.lines if line[0]]
        lines_of = [
            json.dumps({"_id": id, "text": text}) if id else text for id, text in self.lines
        ]
        self.corpus.write_text("".join(line + "\n" for line in lines_of))

    # Loads

    @rule(how=HOW, delete_missing=st.booleans(), last=st.integers(0, 5).map(lambda n: n == 0))
    def load(self, how: str, delete_missing: bool, last: bool) -> None:
        """Load all. last: the load is killed when only the journal is left to be removed."""
        self._load(how, delete_missing, last=last)

    @rule(
        how=HOW,
        delete_missing=st.booleans(),
        encoded=st.sampled_from([-1, 0, 3, 15, 30]),
        steps=st.sampled_from([-1, 0, 1, 2, 4]),
        lost=st.integers(0, 2),
        torn=st.booleans(),
    )
    def interrupt(
        self, how: str, delete_missing: bool, encoded: int, steps: int, lost: int, torn: bool
    ) -> None:
        """Load a part.

        encoded, steps: after how many texts, or steps, it ends, if it has so many. lost, torn: what
        a kill keeps from the journal.
        """
        self._load(how, delete_missing, encoded, steps, lost, torn)

    def _load(
        self,
        how: str,
        delete_missing: bool,
        encoded: int = -1,
        steps: int = -1,
        lost: int = 0,
        torn: bool = False,
        last: bool = False,
    ) -> None:
        if how == "alias" and self.engine.name == "local":
            how = "recreate"
        self.steps[how] += 1
        header = self.header()
        given: dict[str, Any] = {"rejects": str(self.folder / "rejects")} | LENIENT
        if how != "plain":
            given[how] = True
        if how == "recreate" or not header:
            self.begun_by_alias = how == "alias"
        if how == "resume" and self.begun_by_alias:
            given["alias"] = True
        if delete_missing:
            given["delete_missing"] = True
        beside = (
            how == "alias"
            or (how == "recreate" and self.current is not None)
            or (how == "resume" and self.is_beside(header))
        )
        self.encoder.interrupt_after = encoded
        done: splade_es.LoadProgress | None = None
        finished = False

        def finish(journal: Journal) -> None:
            nonlocal finished
            if journal.header and last:
                finished = True
                raise KeyboardInterrupt
            journal_finish(journal)

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Journal, "finish", finish)
                load = self.engine.index(self.name).load_steps(
                    str(self.corpus), self.encoder, **given
                )
                for n, progress in enumerate(load):
                    done = progress
                    if n == steps:
                        load.close()
                        finished = not self.journal.exists()  # it was the last step
                        break
                else:
                    finished = True
        except (KeyboardInterrupt, splade_es.Interrupted):
            assert encoded >= 0 or finished
            self.steps["interrupted"] += 1
        except splade_es.SpladeEsError as error:
            self.expect(error, how, header)
            self.steps[f"refused: {type(error).__name__}"] += 1
        if finished:
            self.steps["completed"] += 1
            if done and not last:
                self.check_counts(done)
            self.completed(beside, delete_missing)
        else:
            self.lose_records(lost, torn)
            self.ended_early(beside)

    # What else happens

    @rule(what=st.sampled_from(["start over", "start over", "delete", "rollback", "rollback"]))
    def interfere(self, what: str) -> None:
        if what == "start over":
            self.journal.unlink(missing_ok=True)
        elif what == "delete" and self.current:
            self.engine.index(self.name).delete()
            del self.contents[self.current]
            self.current = None
        elif what == "rollback" and self.engine.name != "local":
            self.roll_back()
        else:
            return
        self.steps[what] += 1

    def roll_back(self) -> None:
        earlier = self.before.get(self.current or "")
        try:
            back = self.engine.index(self.name).rollback()
        except splade_es.EngineError as error:
            assert earlier not in self.contents, str(error)
        else:
            assert (back.index, back.previous) == (earlier, self.current)
            self.current = earlier

    # The model

    def wanted(self) -> Contents:
        """What the corpus says: of two documents with one id the last one wins."""
        return {id: text for id, text in self.lines if id}

    def header(self) -> dict[str, Any]:
        """Of the journal, if a load has left one."""
        content = self.journal.read_bytes() if self.journal.exists() else b""
        found: dict[str, Any] = json.loads(content.splitlines()[0]) if content else {}
        return found

    def lose_records(self, count: int, torn: bool) -> None:
        """What a kill leaves: requests that are acknowledged, and not in the journal."""
        if not self.header():
            return
        lines = self.journal.read_bytes().splitlines(keepends=True)
        kept = lines[: max(1, len(lines) - count)]
        if torn and len(kept) > 1:
            kept[-1] = kept[-1][:-5]
        self.journal.write_bytes(b"".join(kept))

    def expect(self, error: splade_es.SpladeEsError, how: str, header: dict[str, Any]) -> None:
        """Check that a load had a reason to be refused."""
        text = str(error)
        if not self.lines:
            assert "no documents in it" in text
        elif how in ("plain", "alias") and header:
            assert "an earlier load into " in text
        elif how == "alias" and self.current == self.name:
            assert "not an alias" in text
        elif "was published before, and" in text or "was begun with another alias" in text:
            assert header and how == "resume"
        elif isinstance(error, splade_es.NotPublished):
            assert "it has no documents" in text and not self.wanted()
        elif isinstance(error, splade_es.IndexMissing):
            assert how == "resume" and header["index"] not in self.engine.indices()
        else:
            assert how == "resume" and header, text
            assert (
                "has changed since" in text
                or "fewer documents" in text
                or "begun with another uuid" in text
            ), text

    def ended_early(self, beside: bool) -> None:
        """What a name stands for stays; an index that is loaded itself holds a part."""
        found = self.found(self.name)
        if beside or found is None:
            assert found == self.present()
            return
        old = self.present() or {}
        assert old.keys() <= found.keys()
        for id, text in found.items():
            versions = {old.get(id)} | {version for other, version in self.lines if other == id}
            assert text in versions, id
        self.current = self.current or self.name
        self.contents[self.current] = found

    def check_counts(self, done: splade_es.LoadProgress) -> None:
        bad = sum(not id for id, _ in self.lines)
        assert done.rejected == bad
        assert done.read == len(self.lines)
        assert done.indexed + done.unchanged == len(self.lines) - bad

    def completed(self, beside: bool, delete_missing: bool) -> None:
        wanted = self.wanted()
        if beside:
            earlier = self.current
            self.current = next(iter(self.targets()), self.name)
            self.before.pop(self.current, None)  # of one that had this name and was deleted
            if earlier is not None and self.begun_by_alias:
                self.before[self.current] = earlier
            elif earlier is not None:
                del self.contents[earlier]
            self.contents[self.current] = wanted
        else:
            kept = {} if delete_missing else self.present() or {}
            self.current = self.current or self.name
            self.contents[self.current] = {**kept, **wanted}

    def is_beside(self, header: dict[str, Any]) -> bool:
        """Whether a load that is resumed builds an index that is not in use yet."""
        index = header.get("index", self.name)
        return index not in (self.name, self.current) and index in self.engine.indices()

    def present(self) -> Contents | None:
        """What the name should hold."""
        return None if self.current is None else self.contents[self.current]

    # The index

    def targets(self) -> list[str]:
        alias = self.engine._engine.index(self.name).alias
        return alias.targets() if alias else []

    def found(self, name: str) -> Contents | None:
        return contents(self.engine._engine.index(name))

    @invariant()
    def the_index_is_what_the_model_says(self) -> None:
        assert self.found(self.name) == self.present()
        for name, texts in self.contents.items():
            if name != self.current:
                assert self.found(name) == texts


@pytest.mark.parametrize(
    ("server", "examples", "steps"),
    [
        ("local", 12, 20),
        pytest.param("local", 60, 40, marks=pytest.mark.slow),
        pytest.param("opensearch", 30, 30, marks=pytest.mark.slow),
        pytest.param("elasticsearch", 10, 30, marks=pytest.mark.slow),
    ],
)
def test_any_order_of_loads_kills_and_edits(
    request: pytest.FixtureRequest,
    tiny_model: str,
    tmp_path: Path,
    server: str,
    examples: int,
    steps: int,
) -> None:
    url = f"local:{tmp_path}" if server == "local" else request.getfixturevalue(SERVERS[server])
    with splade_es.connect(url) as engine:

        class Machine(Loader):
            pass

        Machine.engine, Machine.encoder, Machine.steps = engine, WordEncoder(tiny_model), Counter()
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        print(dict(Machine.steps), sum(Machine.steps.values()))
