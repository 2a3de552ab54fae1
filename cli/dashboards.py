"""The command `splade-es dashboards`."""

from __future__ import annotations

from pathlib import Path

import click

from splade_es.cli.options import index_option, insecure_option, json_option
from splade_es.cli.output import print_json


@click.command()
@index_option
@click.option("--kibana", help="URL of Kibana, e.g. http://localhost:5601 or http://…/s/SPACE.")
@click.option("--opensearch-dashboards", help="URL of OpenSearch Dashboards.")
@click.option("--output", help="Write an .ndjson file to import by hand; - for standard output.")
@insecure_option
@json_option
def dashboards(
    index_name: str,
    kibana: str | None,
    opensearch_dashboards: str | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Set up a dashboard that shows what the model put into an index.

    A data view, a search and a dashboard: the most frequent tokens and expansions, how many tokens
    documents have and how heavy they are, documents that match nothing, tokens that are in most
    documents, and those that are significant for the current query. An earlier import is replaced.
    Credentials are those of --url of the other commands, from the environment.

    \b
    Example:
      splade-es dashboards --index articles --kibana http://localhost:5601
    """
    from splade_es.data.files import atomic_file
    from splade_es.errors import CorpusError
    from splade_es.inspection.dashboards import import_saved_objects, ndjson, saved_objects

    given = [place for place in (kibana, opensearch_dashboards, output) if place]
    if len(given) != 1:
        raise click.UsageError("Give one of --kibana, --opensearch-dashboards and --output.")
    objects = saved_objects(index_name)
    if output == "-":  # these are lines of JSON already
        click.echo(ndjson(objects), nl=False)
    elif output:
        with atomic_file(output, CorpusError) as file:
            file.write(ndjson(objects))
        if as_json:
            print_json({"output": output, "objects": len(objects)})
        else:
            click.echo(f"{len(objects)} objects in {Path(output)}")
    else:
        url = import_saved_objects(given[0], objects)
        if as_json:
            print_json({"dashboard": url, "objects": len(objects)})
        else:
            click.echo(url)
