"""A server of language models on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.models import Models


@pytest.fixture
def models() -> Iterator[Models]:
    with Models().listening() as peer:
        yield peer
