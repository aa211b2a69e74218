"""Every regular expression of the service takes linear time, for any input."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from re import _constants as code  # how a pattern is built has no public name
from re import _parser as parser
from typing import Any

import pytest

import app
from app.web.cors import Origins

LONG = 60_000
# Linear ones take a few milliseconds, quadratic ones ten seconds and more.
MOST_SECONDS = 0.5
CLASSES: dict[Any, str] = {
    code.CATEGORY_SPACE: " ",
    code.CATEGORY_DIGIT: "7",
    code.CATEGORY_WORD: "w",
    code.CATEGORY_NOT_SPACE: "x",
}
CORS = Origins(["https://a-*-b-*-c*.example.com", "https://*.*.example"])._allowed


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Each pattern that is a variable of a module."""
    yield "app.web.cors", CORS
    for module in pkgutil.walk_packages(app.__path__, "app."):
        # The first needs an extra, and the others are run by the tool for migrations only.
        if module.name == "app.tracing" or ".migrations." in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            kept = value if isinstance(value, tuple | list) else [value]
            for each in kept:
                if isinstance(each, re.Pattern):
                    yield f"{module.name}.{name}", each


def attacks(tree: Any, before: str = "") -> Iterator[str]:
    """For each repetition without an end: what leads to it, then very much of it, or of what comes behind it, then what
    ends no match.
    """
    for place, (kind, argument) in enumerate(tree):
        if kind in {code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT}:
            least, most, inside = argument
            yield from attacks(inside, before)
            units = {sample(inside), sample(list(tree)[place + 1 : place + 3])} - {""} if most > LONG else ()
            for unit in units:
                yield before + unit * (LONG // len(unit)) + "\x00!"
            # Optional parts belong to what leads there.
            before += sample(inside) * max(1, least)
        elif kind is code.SUBPATTERN:
            yield from attacks(argument[-1], before)
            before += sample([(kind, argument)])
        elif kind is code.ATOMIC_GROUP:
            yield from attacks(argument, before)
            before += sample(argument)
        elif kind is code.BRANCH:
            for branch in argument[1]:
                yield from attacks(branch, before)
            before += sample(argument[1][0])
        else:
            before += sample([(kind, argument)])


def sample(tree: Any) -> str:
    """Something that this part of a pattern matches."""
    return "".join(_sample(kind, argument) for kind, argument in tree)


def _sample(kind: Any, argument: Any) -> str:
    if kind is code.LITERAL:
        return chr(argument)
    if kind is code.NOT_LITERAL:
        return "x" if argument != ord("x") else "y"
    if kind is code.ANY:
        return "x"
    if kind is code.IN:
        negated = argument[0][0] is code.NEGATE
        first, value = argument[-1]
        if negated:
            return " "
        if first is code.CATEGORY:
            return str(CLASSES[value])
        return chr(int(value[0] if first is code.RANGE else value))
    if kind in {code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT}:
        return sample(argument[2]) * max(1, int(argument[0]))
    if kind is code.SUBPATTERN:
        return sample(argument[-1])
    if kind is code.ATOMIC_GROUP:
        return sample(argument)
    if kind is code.BRANCH:
        return sample(argument[1][0])
    return ""  # positions


@pytest.fixture(scope="module")
def known_patterns() -> dict[str, re.Pattern[Any]]:
    """Not made when tests are collected: each process would import the whole app for it."""
    return dict(patterns())


def test_each_pattern_takes_linear_time(known_patterns: dict[str, re.Pattern[Any]]) -> None:
    slow = {}
    for name, pattern in known_patterns.items():
        spelled = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
        for text in attacks(parser.parse(spelled, pattern.flags & ~re.UNICODE)):
            subject: Any = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
            began = time.process_time()
            pattern.fullmatch(subject)
            pattern.match(subject)
            if time.process_time() - began > MOST_SECONDS:
                slow[name] = (pattern.pattern, text[:100])
                break
    assert known_patterns
    assert not slow


@pytest.mark.parametrize(
    "known", [r"\s*application/json\s*(;\s*)?;?\s*", r"bytes=\s*(\d+)\s*-\s*(\d+)?\s*", r"https://[a-z-]+a-[a-z-]+"]
)
def test_the_law_would_find_those_that_were_not(known: str) -> None:
    pattern, slowest = re.compile(known), 0.0
    for text in attacks(parser.parse(known)):
        short = text[:6_000] + text[-2:]
        began = time.process_time()
        pattern.fullmatch(short)
        slowest = max(slowest, time.process_time() - began)
    assert slowest > MOST_SECONDS / 25  # a tenth of the length, a hundredth of the time
