"""Folders of vectors that are damaged, or put together from several: one line, nothing loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]
import pytest

from command_line import error, run
from models import WORDS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.progress import follow
from splade_es.vectors.folder import EncodeFolder

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three parts."""
    path = tmp_path_factory.mktemp("vectors")
    corpus = path / "c"
    lines = [json.dumps({"_id": str(n), "text": " ".join(WORDS[n : n + 9])}) for n in range(25)]
    corpus.write_text("\n".join(lines))
    encoder = Encoder.load(tiny_model)
    for name, scale in (("v", 100.0), ("other", 50.0)):
        settings: Any = {"rejects": str(path / "rejects"), "scale": scale}
        task = EncodeFolder(str(corpus), str(path / name), encoder, settings, part_documents=10)
        follow(task.steps(), None)
    return path


def meta(**values: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "meta.json"
        stored = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({k: v for k, v in stored.items() if v is not Ellipsis}))

    return damage


def text(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content)


def part(change: Callable[[Any], Any]) -> Damage:
    """Another table in the place of the second part, which says that it belongs there."""

    def damage(folder: Path) -> None:
        path = folder / "part-00001.parquet"
        table = pq.read_table(path)
        signed = change(table)
        pq.write_table(signed.replace_schema_metadata(table.schema.metadata), path)

    return damage


def column(name: str, values: Any) -> Damage:
    def change(table: Any) -> Any:
        place = table.schema.names.index(name)
        new = values if isinstance(values, pa.Array) else values(table[name].combine_chunks())
        return table.set_column(place, pa.field(name, new.type), new)

    return part(change)


def lists(values: Any, kind: Any) -> Any:
    def change(array: Any) -> Any:
        return pa.array([values(n, row) for n, row in enumerate(array.to_pylist())], pa.list_(kind))

    return change


def swap(folder: Path) -> None:
    first, second = folder / "part-00000.parquet", folder / "part-00001.parquet"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def cut(name: str, size: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def from_another(folder: Path) -> None:
    shutil.copy(folder.parent / "other" / "part-00001.parquet", folder)


META, PART, VOCABULARY = "meta.json: not written by", "part-00001.parquet: cannot be", "vocabulary."
CELLS, BELONGS = "it has empty cells", "it was another part, or one of other vectors"
DAMAGE: dict[str, tuple[Damage, str]] = {
    "empty meta": (text("meta.json", ""), "meta.json: cannot be read"),
    "meta is a list": (text("meta.json", "[]"), META),
    "meta is a number": (text("meta.json", "7"), META),
    "meta without scale": (meta(scale=...), META),
    "scale is text": (meta(scale="100"), META),
    "scale is negative": (meta(scale=-1), META),
    "scale is not finite": (meta(scale=float("nan")), META),
    "top_k is text": (meta(top_k="a"), META),
    "threshold is a list": (meta(threshold=[1]), META),
    "documents is text": (meta(documents="25"), META),
    "documents is true": (meta(documents=True), META),
    "fewer documents": (meta(documents=24), "has 25 documents instead of 24"),
    "length is text": (meta(max_length="9"), META),
    "model is a list": (meta(model=["x"]), META),
    "vocabulary is no JSON": (text("vocabulary.json", "{"), "vocabulary.json: cannot be read"),
    "vocabulary is a number": (text("vocabulary.json", "1"), VOCABULARY),
    "vocabulary of lists": (text("vocabulary.json", "[[1]]"), VOCABULARY),
    "vocabulary of a surrogate": (text("vocabulary.json", '["\\ud800"]'), VOCABULARY),
    "a deep vocabulary": (text("vocabulary.json", "[" * 100_000), "vocabulary.json: cannot"),
    "cut to nothing": (cut("part-00001.parquet", 0), PART),
    "cut in the middle": (cut("part-00001.parquet", 900), PART),
    "no Parquet": (text("part-00001.parquet", "PAR1 or not PAR1"), PART),
    "swapped parts": (swap, BELONGS),
    "a part of another folder": (from_another, BELONGS),
    "a missing part": (lambda f: (f / "part-00001.parquet").unlink(), "there is no part-00001"),
    "a missing last part": (
        lambda f: (f / "part-00002.parquet").unlink(),
        "has 20 documents instead of 25",
    ),
    "a missing column": (part(lambda table: table.drop_columns(["values"])), PART),
    "one more column": (part(lambda t: t.append_column("x", t["id"])), PART),
    "columns in another order": (part(lambda t: t.select(t.schema.names[::-1])), PART),
    "ids are numbers": (column("id", pa.array(range(10))), PART),
    "an id is missing": (column("id", pa.array(["a", None] * 5)), CELLS),
    "a text is missing": (column("text", pa.array(["a", None] * 5)), CELLS),
    "fields are no JSON": (column("fields", pa.array(["{"] * 10)), "its fields are '{', not an o"),
    "fields are a list": (column("fields", pa.array(["[]"] * 10)), "its fields are '[]', not an"),
    "weights are floats": (
        column("values", lists(lambda n, row: [1.0] * len(row), pa.float32())),
        PART,
    ),
    "weights of a row are missing": (
        column("values", lists(lambda n, row: row if n else None, pa.int16())),
        CELLS,
    ),
    "a weight is missing": (
        column("values", lists(lambda n, row: [None, *row[1:]], pa.int16())),
        CELLS,
    ),
    "a weight is zero": (
        column("values", lists(lambda n, row: [0] * len(row), pa.int16())),
        "it has values that are not 1 to 512",
    ),
    "a weight too large": (
        column("values", lists(lambda n, row: [513] * len(row), pa.int16())),
        "it has values that are not 1 to 512",
    ),
    "fewer weights than ids": (
        column("values", lists(lambda n, row: row[1:], pa.int16())),
        "not every index has a value",
    ),
    "an id beyond the vocabulary": (
        column("indices", lists(lambda n, row: [9999] * len(row), pa.int32())),
        "it has ids of tokens that are not in the vocabulary",
    ),
    "a negative id": (
        column("indices", lists(lambda n, row: [-1] * len(row), pa.int32())),
        "it has ids of tokens that are not in the vocabulary",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_one_line(
    whole: Path, home: Path, tmp_path: Path, damage: Damage, said: str
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    folder = tmp_path / "copy" / "v"
    damage(folder)
    for command in (("index", folder, "--index", "x"), ("export", folder, "--format", "jsonl")):
        args = command if command[0] == "index" else (*command, "--output", "out.jsonl")
        assert said in error(*args)
    assert not Path("out.jsonl").exists()


def test_an_undamaged_folder_is_loaded(whole: Path, home: Path) -> None:
    assert run("index", whole / "v", "--index", "x").exit_code == 0
