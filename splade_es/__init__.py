"""splade-es: learned sparse retrieval on Elasticsearch and OpenSearch.

>>> import splade_es
>>> sorted(splade_es.__all__) == splade_es.__all__
True

Names are imported when they are first used, so that `import splade_es` is quick and loads neither
torch nor a client of a server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from splade_es.version import __version__

if TYPE_CHECKING:
    from splade_es.encoders.base import TextEncoder
    from splade_es.encoders.load import load_query_encoder
    from splade_es.encoders.torch_encoder import Encoder
    from splade_es.errors import (
        AccessDenied,
        CorpusError,
        EngineError,
        FieldTypeMissing,
        IndexExists,
        IndexMismatch,
        IndexMissing,
        IndexReplaced,
        Interrupted,
        ModelError,
        NotPublished,
        QueryError,
        RequestTooLarge,
        SettingsError,
        SpladeEsError,
        TrainingError,
        Unavailable,
    )
    from splade_es.handles import Engine, connect
    from splade_es.index_handle import Index
    from splade_es.index_meta import IndexMeta
    from splade_es.indexing.aliases import Rollback
    from splade_es.indexing.backfill import BackfillSettings
    from splade_es.indexing.settings import LoadSettings
    from splade_es.inspection.dashboards import import_saved_objects, saved_objects
    from splade_es.inspection.diff import Change, diff_corpus, diff_indices, diff_texts
    from splade_es.inspection.expand import Expansion
    from splade_es.inspection.explain import Contribution, Explanation
    from splade_es.operations import (
        encode,
        encode_steps,
        expand,
        export,
        export_steps,
        score,
        score_steps,
        train,
        train_steps,
    )
    from splade_es.progress import (
        BackfillProgress,
        EncodeProgress,
        ExportProgress,
        LoadProgress,
        MineProgress,
        ScoreProgress,
        TrainProgress,
    )
    from splade_es.records import Document, Filter, Hit, IndexStats, Query, Rejected, SparseRow
    from splade_es.search.evaluate import Report, compare, evaluate
    from splade_es.search.evaluation import Evaluation
    from splade_es.search.searcher import Searcher
    from splade_es.training.config import TrainConfig
    from splade_es.training.mining import MineSettings
    from splade_es.vectors.folder import EncodeSettings
    from splade_es.vectors.settings import EncodingSettings

__all__ = [
    "AccessDenied",
    "BackfillProgress",
    "BackfillSettings",
    "Change",
    "Contribution",
    "CorpusError",
    "Document",
    "EncodeProgress",
    "EncodeSettings",
    "Encoder",
    "EncodingSettings",
    "Engine",
    "EngineError",
    "Evaluation",
    "Expansion",
    "Explanation",
    "ExportProgress",
    "FieldTypeMissing",
    "Filter",
    "Hit",
    "Index",
    "IndexExists",
    "IndexMeta",
    "IndexMismatch",
    "IndexMissing",
    "IndexReplaced",
    "IndexStats",
    "Interrupted",
    "LoadProgress",
    "LoadSettings",
    "MineProgress",
    "MineSettings",
    "ModelError",
    "NotPublished",
    "Query",
    "QueryError",
    "Rejected",
    "Report",
    "RequestTooLarge",
    "Rollback",
    "ScoreProgress",
    "Searcher",
    "SettingsError",
    "SparseRow",
    "SpladeEsError",
    "TextEncoder",
    "TrainConfig",
    "TrainProgress",
    "TrainingError",
    "Unavailable",
    "__version__",
    "compare",
    "connect",
    "diff_corpus",
    "diff_indices",
    "diff_texts",
    "encode",
    "encode_steps",
    "evaluate",
    "expand",
    "export",
    "export_steps",
    "import_saved_objects",
    "load_query_encoder",
    "saved_objects",
    "score",
    "score_steps",
    "train",
    "train_steps",
]

#: Module -> public names in it.
_NAMES = {
    "encoders.base": ["TextEncoder"],
    "encoders.load": ["load_query_encoder"],
    "encoders.torch_encoder": ["Encoder"],
    "errors": [
        "AccessDenied", "CorpusError", "EngineError", "FieldTypeMissing", "IndexExists",
        "IndexMismatch", "IndexMissing", "IndexReplaced", "Interrupted", "ModelError",
        "NotPublished", "QueryError",
        "RequestTooLarge", "SettingsError", "SpladeEsError", "TrainingError", "Unavailable",
    ],
    "handles": ["Engine", "connect"],
    "index_handle": ["Index"],
    "index_meta": ["IndexMeta"],
    "indexing.aliases": ["Rollback"],
    "indexing.backfill": ["BackfillSettings"],
    "indexing.settings": ["LoadSettings"],
    "inspection.dashboards": ["import_saved_objects", "saved_objects"],
    "inspection.diff": ["Change", "diff_corpus", "diff_indices", "diff_texts"],
    "inspection.expand": ["Expansion"],
    "inspection.explain": ["Contribution", "Explanation"],
    "operations": [
        "encode", "encode_steps", "expand", "export", "export_steps", "score", "score_steps",
        "train", "train_steps",
    ],
    "progress": [
        "BackfillProgress", "EncodeProgress", "ExportProgress", "LoadProgress", "MineProgress",
        "ScoreProgress", "TrainProgress",
    ],
    "records": ["Document", "Filter", "Hit", "IndexStats", "Query", "Rejected", "SparseRow"],
    "search.evaluate": ["Report", "compare", "evaluate"],
    "search.evaluation": ["Evaluation"],
    "search.searcher": ["Searcher"],
    "training.config": ["TrainConfig"],
    "training.mining": ["MineSettings"],
    "vectors.folder": ["EncodeSettings"],
    "vectors.settings": ["EncodingSettings"],
}  # fmt: skip
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
