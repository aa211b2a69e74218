"""Whether the service is about to stop."""

from __future__ import annotations

import os
from pathlib import Path

from app.settings import DRAIN_FILE


def is_draining() -> bool:
    """Whether `crm serve` was told to stop: then nothing new should come here, and nothing should wait."""
    drain_file = os.environ.get(DRAIN_FILE)
    return drain_file is not None and Path(drain_file).exists()
