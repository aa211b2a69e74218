"""`python -m tests.pages`, or `make docs`: writes what is generated into the documentation."""

from __future__ import annotations

import click

from tests.pages.generated import current

for path, text in current().items():
    if path.read_text() != text:
        path.write_text(text)
        click.echo(path)
