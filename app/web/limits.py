"""How often somebody may do something: so many times a minute, at once or spread out."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from app.web.errors import AppError, Code

WINDOW_SECONDS = 60.0
MOST_REMEMBERED = 50_000


class Limit:
    """A bucket for each key, which refills evenly over a minute; 0 a minute is no limit.

    All that is kept of a key is the moment at which its bucket is full again. Of too many keys the one that was quiet
    for longest is forgotten, which is to its bearer's advantage.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = WINDOW_SECONDS / per_minute if per_minute else 0.0
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def count(self, key: Hashable) -> None:
        """Take one from the bucket. Raises AppError RATE_LIMITED where it is empty."""
        if not self._each:
            return
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._each
        if (wait := full_at - now - WINDOW_SECONDS) > 1e-6:  # what rounding leaves is no reason
            raise AppError(Code.RATE_LIMITED, headers={"Retry-After": str(math.ceil(wait))})
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_REMEMBERED:
            self._full_at.popitem(last=False)
