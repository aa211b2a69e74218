"""A sealed audit log."""

from __future__ import annotations

from typing import Any

import pytest

from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import seal


@pytest.fixture
def five(admin: Caller, settings: Settings) -> list[dict[str, Any]]:
    """Five sealed entries, oldest first."""
    for name in ("Ada", "Bob", "Cleo"):
        admin.customer(name, contact_preferences={"rate": 0.10, "ünicode": ["\u2028", 10**30]})
    customer = admin.customer("Dora")
    admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"status": "active"})
    seal(settings)
    return admin.audit()[::-1]
