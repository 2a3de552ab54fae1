"""From a URL to the engine behind it."""

from __future__ import annotations

from pathlib import Path

from splade_es.data.files import data_directory
from splade_es.engines.base import Engine


def connect_engine(url: str | None) -> Engine:
    """The engine at a URL. See `splade_es.connect`."""
    # Each client library costs half a second to import, and a program needs one or none.
    if not url or url.startswith("local:"):
        from splade_es.engines.local import LocalEngine

        directory = Path(url[len("local:") :]).expanduser() if url else data_directory()
        return LocalEngine(directory)
    from splade_es.engines.address import Address, identify

    address = Address.parse(url)
    product, version = identify(address)
    if product == "opensearch":
        from splade_es.engines.opensearch import OpenSearchEngine

        return OpenSearchEngine(address, version)
    from splade_es.engines.elasticsearch import ElasticsearchEngine

    return ElasticsearchEngine(address, version)
