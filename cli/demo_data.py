"""A small collection of real text that every machine has: documentation strings.

A question is the first sentence of a docstring, the document that answers it is the prose of the
rest, without the name of what it documents. The source is parsed and never imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from splade_es.errors import CorpusError

#: Dependencies of this package, direct and through torch, that explain themselves in prose.
PACKAGES = (
    "numpy",
    "networkx",
    "sympy",
    "mpmath",
    "torch",
    "huggingface_hub",
    "elasticsearch",
    "click",
    "rich",
    "jinja2",
)
MAX_DOCUMENTS = 6_000

# A file that says that a folder holds what this module writes, which may be written again.
_MARKER = ".splade-es-demo"

_SKIPPED_FOLDERS = frozenset({"idlelib", "lib2to3", "site-packages", "test", "testing", "tests"})
_RULE = re.compile(r"[-=~^]{3,}")
_LIST = (
    r"(?:api|args|arguments|attributes|examples?|inputs?|keyword arg(?:ument)?s|kwargs|methods|"
    r"other parameters|outputs?|parameters|params|raises|receives|references|returns?|"
    r"sample usage|see also|shapes?|usage|warns|yields)"
)
_LIST_HEADING = re.compile(rf"{_LIST}\s*:*", re.IGNORECASE)  # as numpy writes it, above a rule
_LIST_START = re.compile(  # as Google and Sphinx write it
    rf"{_LIST}::?|[:@](?:arg|keyword|meta|param|raises|returns?|rtype|type)\b.*", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<![.\s]\w)(?<!etc)(?<!vs)[.?!](?=\s+[A-Z\"(])|\.$|$")
_SIGNATURE = re.compile(r"[\w.]+\(.*\)(?: ?->.*)?")
_MARKUP = re.compile(  # roles, link targets, tags, citations, quotes
    r":[\w:]+:(?=`)|(?<=\w) <[^`>]*>(?=`)|</?\w[^>]*>|\[\d+\]_|`~?|(?<=\s)\||\|(?=\s)"
)
_NO_LETTER = re.compile(r"[^\w ]|[\d_]")


class Example(NamedTuple):
    """One docstring: `id` is the qualified name of what it documents."""

    id: str
    question: str
    text: str


class DemoCounts(NamedTuple):
    """How much of each `write_demo` wrote."""

    documents: int
    train: int
    dev: int
    test: int


def docstrings(
    packages: Iterable[str] = PACKAGES, stdlib: str | None = None
) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of the standard library and of packages, in a fixed order.

    packages: those that are not installed are left out; stdlib: folder of the standard library, by
    default that of this Python.
    """
    roots = [("", stdlib or sysconfig.get_path("stdlib"))]
    for package in packages:
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            roots.append((package, spec.submodule_search_locations[0]))
    for package, root in roots:
        for folder, folders, files in os.walk(root):
            # names with _ are vendored or internal, but numpy has its documentation in _core
            folders[:] = sorted(
                name
                for name in folders
                if name == "_core" or not (name.startswith("_") or name in _SKIPPED_FOLDERS)
            )
            for file in sorted(files):
                if file.endswith(".py") and file != "_pydoc_topics.py":
                    path = os.path.join(folder, file)
                    parts = os.path.relpath(path, root)[:-3].split(os.sep)
                    module = ".".join(filter(None, [package, *parts])).removesuffix(".__init__")
                    yield from _in_source(module, path)


def _in_source(module: str, path: str) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as file:
        source = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in the source
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates, Python 2
        return
    nodes: list[tuple[str, ast.AST]] = [(module, tree)]
    for name, node in nodes:  # the list grows while it is read
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield name, docstring
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in node.body:
                own = getattr(child, "name", "_")
                if not own.startswith("_"):
                    nodes.append((f"{name}.{own}", child))


def example(name: str, docstring: str) -> Example | None:
    """The question and the document in a docstring, or None if it does not have both."""
    if len(docstring.split()) < 25 or "deprecated" in docstring.lower():
        return None
    paragraphs = _prose(docstring)
    if not paragraphs:
        return None
    first = paragraphs[0]
    end = _SENTENCE_END.search(first)
    assert end is not None  # it matches at the end of the paragraph at the latest
    question = first[: end.start()].rstrip(" :,;")
    own = re.escape(name.rpartition(".")[2])
    text = " ".join([first[end.end() :], *paragraphs[1:]])
    text = re.sub(rf"(?<!\w){own}(?!\w)(?:\(\))?", "", text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    if not 5 <= len(question.split()) <= 40 or len(text.split()) < 20:
        return None
    if question.lower() in text.lower():
        return None
    return Example(name, question, text)


def _prose(docstring: str) -> list[str]:
    """The paragraphs that are sentences, without lists of parameters, code, tables and markup."""
    paragraphs = []
    under_heading = indented_list = False
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = block.split("\n")
        if len(lines) > 1 and _RULE.fullmatch(lines[1].strip()):
            under_heading = bool(_LIST_HEADING.fullmatch(lines[0].strip()))
            lines = lines[2:]
        indented_list = indented_list and block.startswith(" ")
        if under_heading or indented_list or block.startswith(("    ", ">>>", "..", "$")):
            continue
        for number, line in enumerate(lines):
            if _LIST_START.fullmatch(line.strip()):
                indented_list = True
                lines = lines[:number]
                break
        paragraph = " ".join(_MARKUP.sub("", " ".join(lines)).split())
        symbols = len(_NO_LETTER.findall(paragraph))
        if symbols < 0.2 * len(paragraph) and not _SIGNATURE.fullmatch(paragraph):
            paragraphs.append(paragraph)
    return paragraphs


def examples(found_in: Iterable[tuple[str, str]] | None = None) -> list[Example]:
    """The examples in docstrings, all questions and all texts different, in a fixed order.

    found_in: see `docstrings`. The order is that of a hash of the names: it is the same on every
    machine, and neighbours have nothing in common.
    """
    found: list[Example] = []
    seen: set[str] = set()
    for name, docstring in docstrings() if found_in is None else found_in:
        item = example(name, docstring)
        if item and not {item.question.lower(), item.text.lower()} & seen:
            seen |= {item.question.lower(), item.text.lower()}
            found.append(item)
    found.sort(key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return found


def write_demo(
    directory: str,
    found: Sequence[Example] | None = None,
    *,
    test_questions: int = 300,
    dev_questions: int = 100,
) -> DemoCounts:
    """Write a collection in BEIR layout, with the splits test and dev, and train.jsonl.

    found: by default the first 6,000 of `examples`. The corpus holds the documents of all splits; a
    line of train.jsonl has `query`, `positive` and `positive_id`. Raises CorpusError if the
    directory cannot be written, or has other data.
    """
    marker = os.path.join(directory, _MARKER)
    written = ("corpus.jsonl", "queries.jsonl", "train.jsonl", "qrels")
    there = any(os.path.exists(os.path.join(directory, name)) for name in written)
    if there and not os.path.exists(marker):
        raise CorpusError(
            f"{directory}: has data that is not that of the demo",
            "Choose another `output`.",
        )
    if found is None:
        found = examples()[:MAX_DOCUMENTS]
    judged = found[: test_questions + dev_questions]
    train = found[len(judged) :]
    splits = {"test": judged[:test_questions], "dev": judged[test_questions:]}
    try:
        os.makedirs(os.path.join(directory, "qrels"), exist_ok=True)
        with open(marker, "w"):
            pass
        _write(directory, "corpus.jsonl", ({"_id": x.id, "text": x.text} for x in found))
        _write(directory, "queries.jsonl", ({"_id": x.id, "text": x.question} for x in judged))
        _write(
            directory,
            "train.jsonl",
            ({"query": x.question, "positive": x.text, "positive_id": x.id} for x in train),
        )
        for split, items in splits.items():
            with open(os.path.join(directory, "qrels", f"{split}.tsv"), "w") as file:
                file.write("query-id\tcorpus-id\tscore\n")
                file.writelines(f"{x.id}\t{x.id}\t1\n" for x in items)
    except OSError as exc:
        raise CorpusError(
            f"{directory}: cannot be written ({exc.strerror or exc})",
            "Choose another directory, or free some space.",
        ) from exc
    return DemoCounts(len(found), len(train), len(splits["dev"]), len(splits["test"]))


def _write(directory: str, name: str, records: Iterable[dict[str, str]]) -> None:
    # half a surrogate pair, as docstrings about Unicode may have, cannot be written as UTF-8
    with open(os.path.join(directory, name), "w", encoding="utf-8", errors="ignore") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
