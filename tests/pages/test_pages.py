"""The documentation is true as far as a program can tell: its generated parts, links, commands and names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from app.cli import crm
from app.settings import Settings
from app.web.errors import Code
from tests.pages.generated import FILES as GENERATED
from tests.pages.generated import ROOT, current
from tests.pages.steps import steps


def files() -> Iterator[Path]:
    """The files of the repository, without what a test run or an installation leaves in its folder."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name != "node_modules"]
        yield from (Path(folder, name) for name in sorted(names))


FILES = list(files())
PAGES = [path for path in FILES if path.suffix == ".md"]
CODE = [path for path in FILES if path.suffix in {".py", ".sql", ".yml", ".yaml", ".sh", ".example"}]
# Read by the service, or by what it is built on, and not one of its settings.
MENTIONED = re.compile(r"\b((?:docs|deploy|tests)/[\w./-]+\.md|[A-Z]+\.md)(#[\w-]+)?")
CODES = {code.name for code in Code}
OTHER_VARIABLES = {"PORT", "TMPDIR", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_HEADERS", "NEXT_PUBLIC_CRM_BASE_URL"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def code() -> str:
    """All of it."""
    return "".join(path.read_text() for path in FILES if path.suffix in {".py", ".txt", ".yml", ".sql"})


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", link))


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.read_text() == current()[path], "run make docs"


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_pages_that_code_mentions_are_there() -> None:
    names = {page.name for page in PAGES}
    for path in CODE:
        for name, anchor in re.findall(
            r"\b((?:docs|deploy|tests)/[\w./-]+\.md|[A-Z]+\.md)(#[\w-]+)?", path.read_text()
        ):
            assert (ROOT / name).exists() or name in names, f"{path}: {name}"
            assert not anchor or anchor[1:] in anchors(ROOT / name), f"{path}: {name}{anchor}"


@every_page
def test_commands_that_a_page_shows_are_there(page: Path) -> None:
    for words in re.findall(r"(?<![\w/@:.-])crm ((?:[a-z]+(?:-[a-z]+)* ?)+(?:--[a-z-]+)?)", code_in(page)):
        command: click.Command = crm
        context = click.Context(crm)
        for word in words.split():
            if word.startswith("--"):
                assert word in {option for each in command.params for option in each.opts} | {"--help"}, words
            elif isinstance(command, click.Group):
                found = command.get_command(context, word)
                assert found is not None, words
                command = found


@every_page
def test_names_that_a_page_uses_are_in_the_code(page: Path) -> None:
    for name in set(re.findall(r"`(crm_\w+)`", page.read_text())):
        assert name.removesuffix("_total") in code(), name  # which counters get when they are read
    for path in set(re.findall(r"`((?:app|tests|migrations|deploy|openapi)/[\w./-]*)`", page.read_text())):
        assert (ROOT / path).exists() or path in {step.path for step in steps()}, path


@every_page
def test_settings_that_a_page_names_are_there(page: Path) -> None:
    known = set(Settings.__struct_encode_fields__) | OTHER_VARIABLES
    prefixes = {name.split("_", 1)[0] for name in known} - {"MAX", "AGENT"}
    for name in set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])(?:=[^`]*)?`", page.read_text())):
        assert name.split("_", 1)[0] not in prefixes or name in known or name in CODES, name


def code_in(page: Path) -> str:
    """What a page shows as code: its blocks of shell, and what stands in backticks."""
    text = page.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])
