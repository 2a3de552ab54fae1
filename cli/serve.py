"""splade-es serve"""

from __future__ import annotations

import click

from splade_es.cli.options import open_engine, query_options


@click.command()
@query_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="0 takes any that is free.",
)
def serve(
    index_name: str,
    url: str | None,
    model: str | None,
    query_top_k: int | None,
    query_threshold: float,
    host: str,
    port: int,
) -> None:
    """Show in a browser how an index answers queries, and why.

    A search box; hits with the words that made their score, the tokens that the model added, the
    query's own tokens with a slider for each, and several rankings side by side. /openapi.json
    describes the API that the page uses. It asks nobody who they are: beyond this machine, put
    something before it that does.

    \b
    Example:
      splade-es serve --index articles --url http://localhost:9200
    """
    from splade_es.encoders.load import load_text_encoder
    from splade_es.errors import EngineError
    from splade_es.search.searcher import Searcher

    try:
        import uvicorn

        from splade_es.inspection.page.app import listen, make_app
    except ImportError as error:
        raise EngineError(
            "The page needs fastapi and uvicorn", "Install them: pip install 'splade-es[serve]'"
        ) from error
    with open_engine(url) as engine:
        searcher = Searcher(
            engine, index_name, model, top_k=query_top_k, threshold=query_threshold, few=True
        )
        documents = load_text_encoder(
            searcher.encoder.name, searcher.meta.max_length, side="document", few=True
        )
        # Else a page of another site could reach it, by a name that stands for this machine.
        hosts = ["127.0.0.1", "localhost", host]
        if host == "0.0.0.0":
            hosts = ["*"]
            click.echo("Whoever reaches this machine can search the index.", err=True)
        app = make_app(searcher, documents, hosts)
        with listen(host, port) as listening:
            click.echo(f"http://{host}:{listening.getsockname()[1]}  (Ctrl-C ends it)")
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
