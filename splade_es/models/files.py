"""Where the parts of a saved model are, found without loading any of them.

    model.safetensors, ...          the document encoder, an ordinary masked-LM directory
    modules.json                    what sentence-transformers builds from it

and, where queries are encoded differently from documents, a Router of sentence-transformers:

    router_config.json              which modules encode a query, and which a document
    query_0_MLMTransformer/         a second encoder, with query_1_SpladePooling/
    query_0_SparseStaticEmbedding/  or a table with one weight for each token of the vocabulary

Nothing here imports torch, so that a search with a table of weights starts in an instant.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from splade_es.data.files import atomic_file, data_directory
from splade_es.errors import ModelError, raised_in_rust

Pooling = Literal["max", "sum"]
#: Names of sentence-transformers: relu is log1p(relu(x)), log1p_relu is log1p of that (2504.14839).
Activation = Literal["relu", "log1p_relu"]

# Fingerprints kept in the cache; older ones are dropped.
_CACHED_FINGERPRINTS = 50
MODULES = "modules.json"
ROUTER = "router_config.json"
QUERY_ENCODER = "query_0_MLMTransformer"
QUERY_TABLE = "query_0_SparseStaticEmbedding"
#: Folders of the pooling: of a model with one encoder, and of either side of a Router.
POOLING, QUERY_POOLING, DOCUMENT_POOLING = (
    "1_SpladePooling",
    "query_1_SpladePooling",
    "document_1_SpladePooling",
)
#: Folder of a table of ones that follows the pooling of a lexical model.
LEXICAL = "2_SparseStaticEmbedding"

_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError
)  # fmt: skip


class Side(NamedTuple):
    """How one side of a model encodes: queries or documents, by an encoder or by a table.

    Attributes
    ----------
    path : str
        Directory or hub name of this side.
    table : bool
        Whether it is a table of token weights instead of a masked language model.
    pooling, activation : str
        Of the encoder.
    lexical : bool
        Whether only tokens of the text itself get a weight (no expansion).
    """

    path: str
    table: bool = False
    pooling: Pooling = "max"
    activation: Activation = "relu"
    lexical: bool = False

    @property
    def pooling_rule(self) -> str:
        """Pooling, activation and lexical in a few words, which an index remembers."""
        words: list[str] = [self.pooling]
        if self.activation != "relu":
            words.append(self.activation)
        return " ".join([*words, *(["lexical"] if self.lexical else [])])


class Sides(NamedTuple):
    """Both sides of a model. They are equal where one encoder does both."""

    query: Side
    document: Side


def read_sides(name: str) -> Sides:
    """Read from the files of sentence-transformers how a model encodes each side.

    A model without these files is one encoder for both sides, with max pooling.

    Parameters
    ----------
    name : str
        Directory or hub name.

    Raises
    ------
    ModelError
        The files describe something other than a SPLADE model.
    """
    with loading(name):
        modules = [(_kind(m), m["path"]) for m in _saved_json(name, MODULES) or []]
        if [kind for kind, _ in modules] != ["Router"]:
            side = _side(name, modules)
            return Sides(side, side)
        if not os.path.isdir(name):  # each part has its own folder: download all of them
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


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what damaged files of a model raise, here or in a library, into ModelError."""
    try:
        yield
    except BaseException as error:
        if not (raised_in_rust(error) or isinstance(error, _DAMAGE)):
            raise
        first = str(error).partition("\n")[0][:200]
        raise ModelError(
            f"{name}: its files are damaged, or of another kind of model "
            f"({type(error).__name__}: {first})",
            "Save or download the model again.",
        ) from error


def present_directory(name: str) -> str | None:
    """The directory of a model that is on this machine: itself, or in the cache of the hub.

    None if it would have to be downloaded.
    """
    if os.path.isdir(name):
        return name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # the path of a directory that is not there
        return None
    return os.path.dirname(cached) if isinstance(cached, str) else None


def fingerprint(path: str, *, cache_from_bytes: int = 10_000_000) -> str:
    """Hash the weight files of a model: models with the same SHA-256 give the same vectors.

    Every search needs it, so for large files it is kept in the user's data directory until the
    files change.

    Parameters
    ----------
    path : str
        Directory or hub name of one encoder.
    cache_from_bytes : int
        Size of the weight files from which the hash is kept.
    """
    with loading(path):
        directory = Path(path)
        if not directory.is_dir():
            from huggingface_hub import hf_hub_download

            directory = Path(hf_hub_download(path, "config.json")).parent
        files = sorted(directory.glob("*.safetensors"))
        files = files or sorted(directory.glob("pytorch_model*.bin"))
        states = [(file, file.stat()) for file in files]
        if sum(state.st_size for _, state in states) < cache_from_bytes:
            return _sha256(files)
    # the change time also differs for a file that was rewritten and given its old times back
    key = json.dumps([[str(f.resolve()), s.st_size, s.st_ino, s.st_ctime_ns] for f, s in states])
    cache = data_directory() / "fingerprints.json"
    try:
        known = dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    if key not in known:
        known[key] = _sha256(files)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(cache, ModelError) as file:
                json.dump(dict(list(known.items())[-_CACHED_FINGERPRINTS:]), file)
        except (OSError, ModelError):
            pass  # the hash is computed again next time
    return str(known[key])


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _side(name: str, modules: list[tuple[str, str]]) -> Side:
    """Describe the side made of these modules: (class, folder) of each step, text to vector."""
    kinds = [kind for kind, _ in modules]
    path = str(Path(name, modules[0][1])) if modules and modules[0][1] not in ("", ".") else name
    if kinds == ["SparseStaticEmbedding"]:
        return Side(path, table=True)
    if "Pooling" in kinds:  # a sentence encoder: only its masked-LM backbone is used
        modules, kinds = [], []
    if kinds not in ([], _ENCODER, [*_ENCODER, "SparseStaticEmbedding"]):
        raise ModelError(
            f"{name}: a model made of {', '.join(kinds)} is not a SPLADE model",
            "Use a masked language model with max or sum pooling.",
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
    # sentence-transformers calls it Transformer since version 5.4
    return "MLMTransformer" if kind == "Transformer" else kind


def _saved_json(name: str, file: str) -> Any:
    """Read a JSON file that sentence-transformers saves with a model; None if there is none."""
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
        raise ModelError(
            f"{path}: invalid JSON ({error})", "Save or download the model again."
        ) from error
