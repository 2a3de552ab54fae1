"""`python -m splade_es` is the command `splade-es`."""

from splade_es.cli.main import main

main(prog_name="splade-es")
