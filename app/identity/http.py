"""What routes share: a request's transaction, and where it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.identity.caller import caller_of
from app.identity.database import Transaction
from app.web.errors import AppError, Code
from app.web.input import CrmRequest


@asynccontextmanager
async def transaction(request: CrmRequest) -> AsyncIterator[Transaction]:
    """This request's transaction, which is committed before the answer. Raises AppError."""
    async with request.app.state.database.transaction(caller_of(request)) as tx:
        yield tx


def wanted_organization(request: CrmRequest) -> str | None:
    """The organization that the header X-Organization-Id names. Raises AppError ORGANIZATION_FORBIDDEN for several."""
    # Headers are bytes: other characters than ASCII come as UTF-8.
    named = {
        value.encode("latin-1").decode("utf-8", "replace") for value in request.headers.getall("x-organization-id", [])
    }
    if len(named) > 1:
        raise AppError(Code.ORGANIZATION_FORBIDDEN, "Name one organization in the header X-Organization-Id")
    return named.pop() if named else None
