"""Where the parts of a saved model lie, read without loading any of them.

    model.safetensors, ...          the document encoder, an ordinary masked-LM directory
    modules.json                    what sentence-transformers builds of it

and, where queries are encoded in a way of their own, a Router of sentence-transformers:

    router_config.json              which modules encode a query, and which a document
    query_0_MLMTransformer/         a second encoder, with query_1_SpladePooling/
    query_0_SparseStaticEmbedding/  or a table with one weight for each token of the vocabulary

Nothing here imports torch: a search with a table of weights should start in an instant.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from splade_es.data.files import atomic_file, data_directory
from splade_es.errors import ModelError

Pooling = Literal["max", "sum"]
#: Names of sentence-transformers: log1p(relu(x)), and log1p of it once more (2504.14839).
Activation = Literal["relu", "log1p_relu"]

# Fingerprints of models this large are remembered, and of so many models.
_REMEMBERED_BYTES, _REMEMBERED = 10_000_000, 50
MODULES = "modules.json"
ROUTER = "router_config.json"
QUERY_ENCODER = "query_0_MLMTransformer"
QUERY_TABLE = "query_0_SparseStaticEmbedding"
#: The pooling of the model that one encoder alone makes, and of either side of a Router.
POOLING, QUERY_POOLING, DOCUMENT_POOLING = (
    "1_SpladePooling",
    "query_1_SpladePooling",
    "document_1_SpladePooling",
)
#: A table of ones after the pooling leaves the tokens of the text alone: no expansion.
LEXICAL = "2_SparseStaticEmbedding"


class Side(NamedTuple):
    """How queries, or documents, are encoded: by a masked language model, or by a table.

    path: directory or hub name. pooling, activation and lexical are those of a model.
    """

    path: str
    table: bool = False
    pooling: Pooling = "max"
    activation: Activation = "relu"
    lexical: bool = False

    @property
    def rule(self) -> str:
        """How a vector comes about, in a word or two for an index to remember."""
        words: list[str] = [self.pooling]
        if self.activation != "relu":
            words.append(self.activation)
        return " ".join([*words, *(["lexical"] if self.lexical else [])])


class Sides(NamedTuple):
    """Both sides of a model; they are equal where one encoder does both."""

    query: Side
    document: Side


def read_sides(name: str) -> Sides:
    """What the files of sentence-transformers say of a model; without any, it is a plain one.

    name: a directory or a hub name. Raises ModelError for modules of another purpose.
    """
    modules = [(_kind(m), m["path"]) for m in _saved_json(name, MODULES) or []]
    if [kind for kind, _ in modules] != ["Router"]:
        side = _side(name, modules)
        return Sides(side, side)
    if not os.path.isdir(name):  # its parts lie in folders of their own, fetched together
        from huggingface_hub import snapshot_download

        name = snapshot_download(name)
    router = _saved_json(name, str(Path(modules[0][1], ROUTER))) or {}
    try:
        sides = [
            _side(
                name,
                [
                    (_kind({"type": router["types"][id]}), str(Path(modules[0][1], id)))
                    for id in router["structure"][route]
                ],
            )
            for route in ("query", "document")
        ]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{name}: {ROUTER} does not say how queries and documents are encoded",
            "Save or download the model again.",
        ) from error
    return Sides(*sides)


def fingerprint(path: str) -> str:
    """SHA-256 of a model's weight files: two models with the same one give the same vectors.

    That of large files is remembered for as long as nobody touches them: every search asks for it.
    """
    directory = Path(path)
    if not directory.is_dir():
        from huggingface_hub import hf_hub_download

        directory = Path(hf_hub_download(path, "config.json")).parent
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
    states = [(file, file.stat()) for file in files]
    if sum(state.st_size for _, state in states) < _REMEMBERED_BYTES:
        return _hash(files)
    # a file that is written anew, even with its old times put back, has another change time
    key = json.dumps([[str(f.resolve()), s.st_size, s.st_ino, s.st_ctime_ns] for f, s in states])
    memory = data_directory() / "fingerprints.json"
    try:
        known = dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    if key not in known:
        known[key] = _hash(files)
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(memory, ModelError) as file:
                json.dump(dict(list(known.items())[-_REMEMBERED:]), file)
        except (OSError, ModelError):
            pass  # then it is counted again next time
    return str(known[key])


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _side(name: str, modules: list[tuple[str, str]]) -> Side:
    """modules: (class, folder) of each step from text to vector."""
    kinds = [kind for kind, _ in modules]
    path = str(Path(name, modules[0][1])) if modules and modules[0][1] not in ("", ".") else name
    if kinds == ["SparseStaticEmbedding"]:
        return Side(path, table=True)
    if "Pooling" in kinds:  # a sentence encoder, whose dense vector we do without
        modules, kinds = [], []
    if kinds not in ([], _ENCODER, [*_ENCODER, "SparseStaticEmbedding"]):
        raise ModelError(
            f"{name}: a model made of {', '.join(kinds)} is none of SPLADE's kinds",
            "Use a masked language model under max or sum pooling.",
        )
    config = (_saved_json(name, str(Path(modules[1][1], "config.json"))) if modules else {}) or {}
    pooling = config.get("pooling_strategy", "max")
    activation = config.get("activation_function", "relu")
    if pooling not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise ModelError(
            f"{name}: pooling {pooling!r} with activation {activation!r} is not supported",
            "Use a model with max or sum pooling and activation relu or log1p_relu.",
        )
    return Side(path, False, pooling, activation, lexical=len(kinds) == 3)


_ENCODER = ["MLMTransformer", "SpladePooling"]


def _kind(module: dict[str, Any]) -> str:
    kind = str(module["type"]).rpartition(".")[2]
    return "MLMTransformer" if kind == "Transformer" else kind  # its name from version 5.4 on


def _saved_json(name: str, file: str) -> Any:
    """A file beside the model, where it has been saved for sentence-transformers, else None."""
    path = os.path.join(name, file)
    if not os.path.isdir(name):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError

        try:
            path = hf_hub_download(name, file)
        except (OSError, HFValidationError):  # no such file, or no network
            return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{path}: no JSON ({error})", "Save or download it again.") from error
