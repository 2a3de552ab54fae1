"""Public functions that need no index: training, encoding, and looking at models."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from splade_es.arguments import check_settings, check_type, checked
from splade_es.handles import Engine
from splade_es.index_loading import Model, Path, model_name
from splade_es.progress import EncodeProgress, ExportProgress, ScoreProgress, TrainProgress, follow
from splade_es.quantize import Quantizer
from splade_es.vectors.export import Format, export_folder
from splade_es.vectors.folder import EncodeFolder, EncodeSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from splade_es.inspection.expand import Expansion
    from splade_es.training.config import TrainConfig


def encode(
    corpus: Path,
    output: Path,
    model: Model,
    *,
    progress: Callable[[EncodeProgress], object] | None = None,
    **settings: Unpack[EncodeSettings],
) -> EncodeProgress:
    """Encode a corpus into a folder of Parquet files, which `Index.load` and `export` read.

    Parameters
    ----------
    corpus : str or path
        JSON Lines, plain or compressed; "-" for standard input; or a BEIR folder. See `Index.load`.
    output : str or path
        The folder.
    model : str, path or Encoder
        Directory or hub name, or an encoder that is loaded already.
    progress : callable, optional
        Called with the counts after each document.
    **settings
        See `EncodeSettings`: resume, top_k, precision and so on.

    Raises
    ------
    CorpusError
        The corpus cannot be read, or the folder cannot be written or was begun differently.
    ModelError
        The model cannot be loaded.
    Interrupted
        Ctrl-C; what was encoded is in the folder, and `resume` continues.
    """
    return follow(encode_steps(corpus, output, model, **settings), progress)


def encode_steps(
    corpus: Path,
    output: Path,
    model: Model,
    **settings: Unpack[EncodeSettings],
) -> Generator[EncodeProgress, None, None]:
    """`encode`, step by step: an iterator of its counts."""
    check_type("corpus", corpus, Path)
    check_type("output", output, Path)
    check_type("model", model, Model)
    check_settings(settings, EncodeSettings, "encode")
    return EncodeFolder(os.fspath(corpus), os.fspath(output), model_name(model), settings).steps()


@checked
def export(
    vectors: Path,
    format: Format,
    output: Path,
    *,
    progress: Callable[[ExportProgress], object] | None = None,
) -> ExportProgress:
    """Write a folder of vectors to one file for another engine, whole or not at all.

    Parameters
    ----------
    vectors : str or path
        A folder that `encode` wrote.
    format : {"anserini", "jsonl", "ciff", "npz"}
        anserini: JSON Lines {"id", "contents", "vector": {token: integer}}, a JsonVectorCollection
        of Anserini and Pyserini. jsonl: {"_id", "indices", "values"}, vocabulary ids and weights.
        ciff: the Common Index File Format (2003.08276) of PISA, Anserini, JASS and others. npz: a
        SciPy CSR matrix of the integers, with arrays "ids" and "vocabulary" beside it.
    output : str or path
        The file.
    progress : callable, optional
        Called with the count after each document.

    Raises
    ------
    CorpusError
        The folder cannot be read, or the file cannot be written.
    """
    return follow(export_steps(vectors, format, output), progress)


@checked
def export_steps(
    vectors: Path, format: Format, output: Path
) -> Generator[ExportProgress, None, None]:
    """`export`, step by step: an iterator of its counts."""
    return export_folder(os.fspath(vectors), format, os.fspath(output))


@checked
def expand(text: str, model: Path, *, query: bool = False) -> list[Expansion]:
    """The tokens that stand for a text, the strongest first, with the words that caused them.

    Parameters
    ----------
    text : str
        Any text.
    model : str or path
        Directory or hub name.
    query : bool
        Encode the text as a query. A document also has the integers that an index stores at the
        default scale.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    QueryError
        The model finds no term in the text.
    """
    from splade_es.encoders.load import load_document_encoder, load_query_encoder
    from splade_es.inspection.expand import expand as expand_text

    if query:
        return expand_text(load_query_encoder(os.fspath(model)), text, None)
    return expand_text(load_document_encoder(os.fspath(model)), text, Quantizer())


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
    reading: Callable[[str, int], object] | None = None,
    progress: Callable[[TrainProgress], object] | None = None,
) -> TrainProgress:
    """Train a SPLADE model and leave it in `config.output`.

    Parameters
    ----------
    config : TrainConfig
        All settings.
    resume : bool
        Continue the interrupted run in `config.output`. It ends where it would have ended, on a CPU
        bit for bit.
    engine : Engine, optional
        Where the index `config.df_index` is; only needed with that setting.
    stop : threading.Event, optional
        When it is set, the step is finished and a checkpoint written before the run ends with
        `Interrupted`. Without it a KeyboardInterrupt loses the steps since the last checkpoint.
    reading : callable, optional
        Called while the training data is read, with what is read, such as "rows", and their number
        so far.
    progress : callable, optional
        Called with each log line.

    Returns
    -------
    TrainProgress
        The last log line. Of a run that was finished already, and in all processes but the first
        of several, its means are NaN.

    Raises
    ------
    TrainingError
        The data or the settings are invalid, or the loss is not finite.
    ModelError
        The model cannot be loaded.
    CorpusError
        A file cannot be read.
    Interrupted
        `stop` was set; `resume` continues.
    """
    steps = train_steps(config, resume=resume, engine=engine, stop=stop, reading=reading)
    return follow(steps, progress)


def train_steps(
    config: TrainConfig,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
    reading: Callable[[str, int], object] | None = None,
) -> Generator[TrainProgress, None, None]:
    """`train`, step by step: an iterator of its log lines."""
    from splade_es.training.config import TrainConfig
    from splade_es.training.loop import train_steps as steps

    check_type("config", config, TrainConfig)
    check_type("resume", resume, bool)
    check_type("engine", engine, Engine | None)
    return steps(
        config,
        resume=resume,
        engine=None if engine is None else engine._engine,
        stop=stop,
        reading=reading,
    )


@checked
def score(
    lines: Path,
    teachers: Sequence[str],
    output: Path,
    *,
    teacher_scale: float | None = None,
    progress: Callable[[ScoreProgress], object] | None = None,
) -> ScoreProgress:
    """Add the scores of teachers to training lines, for the losses margin_mse and kl.

    Parameters
    ----------
    lines : str or path
        JSON Lines with "query", "positive" and "negatives", plain or compressed, as `Index.mine`
        writes.
    teachers : sequence of str
        Cross-encoders, sentence encoders or SPLADE models: directories or hub names. The scores of
        one are written as they are; those of several are brought to 0..1 in each line and averaged.
    output : str or path
        File for the lines with "scores".
    teacher_scale : float, optional
        Range of the scores of several teachers; 30 by default.
    progress : callable, optional
        Called with the counts after each batch of lines.

    Raises
    ------
    TrainingError
        A line cannot be scored, or the output cannot be written.
    ModelError
        A teacher cannot be loaded.
    SettingsError
        `teacher_scale` is given for one teacher.
    """
    return follow(score_steps(lines, teachers, output, teacher_scale=teacher_scale), progress)


@checked
def score_steps(
    lines: Path,
    teachers: Sequence[str],
    output: Path,
    *,
    teacher_scale: float | None = None,
) -> Generator[ScoreProgress, None, None]:
    """`score`, step by step: an iterator of its counts."""
    from splade_es.training.scoring import score_lines

    return score_lines(os.fspath(lines), teachers, os.fspath(output), teacher_scale)
