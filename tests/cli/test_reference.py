"""cli/README.md is what the commands say of themselves."""

from pathlib import Path

from splade_es.cli.reference import render


def test_the_reference_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "cli" / "README.md"
    assert written.read_text(encoding="utf-8") == render(), (
        "run: python -m splade_es.cli.reference > cli/README.md"
    )
