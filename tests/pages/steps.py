"""The steps of docs/adding-a-resource.md: each a file with its whole text, or an edit of one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.db.revisions import revisions

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-resource.md"
# A file's path on a line of its own, and the blocks that follow it: the whole file, or edits of one.
PATH = re.compile(r"^`([\w./-]+)`$")


class Step(NamedTuple):
    """A block of the page: a file, or an edit of one."""

    path: str
    edit: bool
    text: str


def steps() -> Iterator[Step]:
    """The page's blocks, in order."""
    path, language = "", ""
    block: list[str] = []
    for line in PAGE.read_text().splitlines():
        if line == "```":
            text = "".join(f"{each}\n" for each in block).replace('"0099"', f'"{revisions()[0]}"')
            yield Step(path, language == "diff", text)
            block, language = [], ""
        elif language:
            block.append(line)
        elif line.startswith("```"):
            language = line.removeprefix("```")
        elif found := PATH.match(line):
            path = found[1]


def apply(step: Step, root: Path) -> None:
    """Do what a block says."""
    path = root / step.path
    if not step.edit:
        assert not path.exists(), f"{step.path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text)
        return
    lines = step.text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    text = path.read_text()
    assert text.count(before) == 1, f"{step.path} has this {text.count(before)} times:\n{before}"
    path.write_text(text.replace(before, after))
