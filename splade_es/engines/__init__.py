"""The search engines behind one seam; `connect` finds the one that is meant."""

from __future__ import annotations

from pathlib import Path

from splade_es.engines.base import Engine
from splade_es.files import home


def connect(url: str | None, *, patient: bool = False) -> Engine:
    """The engine at `url`: None or "local:DIR" for the one that needs no server (it lives in
    $SPLADE_ES_HOME, $XDG_DATA_HOME/splade-es or ~/.local/share/splade-es), else what
    `Address.parse` takes, where the server is asked whether it is Elasticsearch or OpenSearch.
    patient: whether a server that has answered once is given time later; see `ServerIndices`.
    Raises EngineError."""
    # Each client library costs half a second to import, and a command needs one or none.
    if not url or url.startswith("local:"):
        from splade_es.engines.local import LocalEngine

        return LocalEngine(Path(url[len("local:") :]).expanduser() if url else home())
    from splade_es.engines.address import Address, identify

    address = Address.parse(url)
    product, version = identify(address)
    if product == "opensearch":
        from splade_es.engines.opensearch import OpenSearchEngine

        return OpenSearchEngine(address, version, patient)
    from splade_es.engines.elasticsearch import ElasticsearchEngine

    return ElasticsearchEngine(address, version, patient)
