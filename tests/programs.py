"""Programs of others that tests speak to."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

CI = bool(os.environ.get("CI"))


def missing(what: str) -> NoReturn:
    """A test can't run for want of this: a failure in CI, where nobody reads what was skipped, and a skip elsewhere."""
    if CI:
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def program(*names: str, package: str) -> str:
    """The path of the first of these programs that is installed. For `package` see .ci/install-test-programs."""
    for name in names:
        if path := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
            return path
    missing(f"{names[0]} is not installed: apt install {package}")
