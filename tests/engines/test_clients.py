"""The client of Elasticsearch in version 9, which `make test-clients` puts on the path."""

from __future__ import annotations

import elasticsearch
import pytest

from splade_es.engines.connect import connect_engine
from splade_es.errors import EngineError

pytestmark = pytest.mark.skipif(
    elasticsearch.__version__[0] < 9, reason="this is version 8: run `make test-clients`"
)


@pytest.mark.slow
def test_a_server_that_refuses_a_newer_client_is_named(old_elasticsearch_url: str) -> None:
    engine = connect_engine(old_elasticsearch_url)
    for ask in (engine.index("docs").exists, engine.indices):  # the first gets an empty answer
        with pytest.raises(EngineError) as caught:
            ask()
        assert str(caught.value) == (
            f"The server at {engine.where} is Elasticsearch {engine.version}, which refuses "
            "version 9 of the Python client. Run: pip install 'elasticsearch<9'"
        )
    engine.close()
