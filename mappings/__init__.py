"""The bodies that splade-es sends to a server, as JSON that one can also paste into a console."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from splade_es.index_meta import IndexMeta
from splade_es.records import Source


def index_body(
    meta: IndexMeta, features: dict[str, Any], *, source: Source = "full"
) -> dict[str, Any]:
    """`index.json` for one model. features: the mapping of the field that holds the vectors."""
    body: dict[str, Any] = json.loads(files(__name__).joinpath("index.json").read_text("utf-8"))
    body["mappings"]["_meta"]["splade_es"] = meta.to_dict()
    body["mappings"]["properties"]["splade"] = features
    if source == "no-vectors":
        # The hash goes with the vector: an update loses both, and the next load encodes such a
        # document again. So it is stored beside `_source`.
        body["mappings"]["_source"] = {"excludes": ["splade", "splade_view", "splade_hash"]}
        body["mappings"]["properties"]["splade_hash"]["store"] = True
    return body
