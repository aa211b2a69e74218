"""How large the windows of models have turned out to be: nobody says so beforehand."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from app.assistant.provider import Model

MOST_WINDOWS, WINDOW_SECONDS = 1000, 3600.0


class Windows:
    """How large the windows of an organization's models have turned out to be, in this worker, within an hour."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: OrderedDict[tuple[str, str, str | None, str], tuple[int, float]] = OrderedDict()

    def of(self, tenant_id: str, model: Model, most: int) -> int:
        """In tokens."""
        tokens, until = self._known.get(_key(tenant_id, model), (most, 0.0))
        return min(most, tokens) if self._now() < until else most

    def learn(self, tenant_id: str, model: Model, tokens: int) -> None:
        """Note it."""
        self._known[_key(tenant_id, model)] = tokens, self._now() + WINDOW_SECONDS
        if len(self._known) > MOST_WINDOWS:
            self._known.popitem(last=False)


def _key(tenant_id: str, model: Model) -> tuple[str, str, str | None, str]:
    return tenant_id, model.provider, model.base_url, model.name
