"""What an index gets of a document: the JSON that orjson would make of its fields, one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from splade_es.engines.transport import bulk_lines
from splade_es.features import feature_names, surface
from splade_es.filter_terms import filter_terms
from splade_es.indexing.bulk_actions import ActionBuilder, LoadRequest
from splade_es.limits import MAX_WEIGHT
from splade_es.records import Action, Document, Encoded, Quantized, Version

ODD = ["heart", "##ing", "{", "}", ",", '"', "\\", ".", "%", "a.b%", "\0", "\n", "\x7f", "é", "İ",
       "東京", "🙂", "null", "", "##", "▁", "Ġthe", "s" * 40]  # fmt: skip
vocabularies = st.lists(st.text() | st.sampled_from(ODD), min_size=1, max_size=40, unique=True)
values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.floats()
fields = st.dictionaries(
    st.text().filter(lambda name: name not in ("title", "text") and not name.startswith("splade")),
    st.recursive(values, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    max_size=3,
)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[list[str], list[Encoded]]:
    """A vocabulary, and documents with vectors of it whose texts contain some of the tokens."""
    tokens = draw(vocabularies)
    words = st.lists(st.text() | st.sampled_from(tokens), max_size=6).map(" ".join)
    items = []
    for n in range(draw(st.integers(0, 5))):
        ids = sorted(draw(st.sets(st.integers(0, len(tokens) - 1))))
        integers = draw(st.lists(st.sampled_from([1, 2, 30, MAX_WEIGHT]) | st.integers(1, 512),
                                 min_size=len(ids), max_size=len(ids)))  # fmt: skip
        vector = Quantized(np.array(ids, np.int32), np.array(integers, np.int32), 0)
        document = Document(draw(st.text()) + str(n), draw(words), draw(words), draw(fields))
        items.append(Encoded(document, vector))
    return tokens, items


def by_hand(tokens: list[str], settings: str, item: Encoded, time: str) -> dict[str, Any]:
    """The fields of a document, as a dictionary."""
    (document, vector), names = item, feature_names(tokens)
    order = sorted(range(len(vector.ids)), key=lambda n: (-vector.values[n], vector.ids[n]))
    pairs = [(int(vector.ids[n]), int(vector.values[n])) for n in order]
    body = document.body.lower()
    terms = filter_terms(document.fields)
    return {
        **document.fields,
        "title": document.title,
        "text": document.text,
        **({"splade_fields": terms} if terms else {}),
        "splade_top": [tokens[id] for id, _ in pairs][:20],
        "splade_new": [tokens[id] for id, _ in pairs if surface(tokens[id]) not in body][:20],
        "splade_view": " ".join(f"{tokens[id]}:{value}" for id, value in pairs),
        "splade_n": len(pairs),
        "splade_max": pairs[0][1] if pairs else 0,
        "splade_model": "a model",
        "splade_at": time,
        "splade_hash": document.content_hash(settings),
        "splade": {names[id]: value for id, value in pairs},
        "splade_id": document.id,
    }


def as_json(value: Mapping[str, Any]) -> bytes:
    """As orjson writes it, and json where orjson cannot, or writes NaN as null."""
    try:
        made = orjson.dumps(value)
    except TypeError:
        made = b"null"
    if b"null" in made:
        made = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return made


@given(encoded())
@example((ODD, [Encoded(Document("a", "NULL heart", fields={"none": None}),
                        Quantized(np.arange(len(ODD), dtype=np.int32),
                                  np.full(len(ODD), 7, np.int32), 0))]))  # fmt: skip
def test_what_is_sent_is_the_json_of_the_fields(case: tuple[list[str], list[Encoded]]) -> None:
    tokens, items = case
    request = LoadRequest(items, 0, ActionBuilder(tokens, "settings", "a model"))
    for item, action in zip(items, request.actions(), strict=True):
        target, line = bulk_lines(action)
        assert target == as_json({"index": {"_id": item.document.id}})
        time = json.loads(line)["splade_at"]
        expected = by_hand(tokens, "settings", item, time)
        assert b"\n" not in line
        assert list(json.loads(line)) == list(expected)
        # floats beside null are written by json, in another way than by orjson
        end = list(expected).index("splade_top")
        own = dict([*expected.items()][:end])
        parts = [own, *({k: v} for k, v in [*expected.items()][end:])]
        assert line == b",".join([as_json(part)[1:-1] for part in parts]).join([b"{", b"}"])
    assert request.hashes == [item.document.content_hash("settings") for item in items]


def test_an_index_that_exists_still_knows_its_documents() -> None:
    """The hash is that of the releases before: else all documents would be encoded again."""
    document = Document("a", "The heart.", "Pump", {"year": 1999, "tags": ["x", None]})
    content = b'["Pump","The heart.",{"year":1999,"tags":["x",null]},"top_k None, threshold 0"]'
    expected = hashlib.blake2b(content, digest_size=16).hexdigest()
    assert document.content_hash("top_k None, threshold 0") == expected


def test_updates_and_deletions_name_the_state_they_are_for() -> None:
    version = Version(7, 2)
    assert bulk_lines(Action("a", None)) == (b'{"delete":{"_id":"a"}}',)
    assert bulk_lines(Action("a", b"{}", b'{"x":1}', version)) == (
        b'{"update":{"_id":"a","if_seq_no":7,"if_primary_term":2}}',
        b'{"doc":{"splade":[{"x":1}],"splade_id":"a"}}',
    )
    routed = Action("a", b'{"t":1}', b"{}", version._replace(routing="r"), "vector")
    assert bulk_lines(routed) == (
        b'{"update":{"_id":"a","if_seq_no":7,"if_primary_term":2,"routing":"r"}}',
        b'{"doc":{"t":1,"vector":[{}],"splade_id":"a"}}',
    )


def test_more_documents_than_are_handled_at_once() -> None:
    tokens = [f"t{n}" for n in range(50)]
    draw = np.random.default_rng(0)
    items = []
    for n in range(200):
        ids = np.flatnonzero(draw.random(50) < 0.6 * (n % 3)).astype(np.int32)
        integers = draw.integers(1, 5, ids.size).astype(np.int32)
        items.append(Encoded(Document(str(n), "t1 t2"), Quantized(ids, integers, 0)))
    request = LoadRequest(items, 0, ActionBuilder(tokens, "", "a model"))
    for item, action in zip(items, request.actions(), strict=True):
        line = json.loads(bulk_lines(action)[1])
        expected = by_hand(tokens, "", item, line["splade_at"])
        assert line == expected and list(line["splade"]) == list(expected["splade"])
