"""Answers that are kept under a client's Idempotency-Key, in the transaction of the work itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from litestar import Response
from litestar.enums import MediaType
from sqlalchemy import LargeBinary, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.types import Interval, Text, Uuid

from app.identity.database import Transaction
from app.identity.guards import Person
from app.identity.http import transaction
from app.identity.models import IdempotencyKey
from app.web import strict_json
from app.web.errors import AppError, Code
from app.web.input import CrmRequest

T = TypeVar("T")

c = IdempotencyKey.__table__.c
KEPT_FOR = literal_column("interval '24 hours'", Interval)
LOCK = select(func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("what", type_=Text), 0)))
_mine = (c.user_id == bindparam("person", type_=Uuid), c.key == bindparam("given", type_=Text))
FIND = select(c.fingerprint, c.body).where(*_mine, c.created_at >= func.now() - KEPT_FOR)
_keep = upsert(IdempotencyKey).values(
    user_id=bindparam("person"),
    key=bindparam("given"),
    fingerprint=bindparam("request", type_=LargeBinary),
    body=bindparam("answer", type_=LargeBinary),
)
KEEP = _keep.on_conflict_do_update(
    index_elements=["user_id", "key"],
    set_={name: _keep.excluded[name] for name in ("fingerprint", "body", "created_at")},
)


async def made_once(
    request: CrmRequest,
    make: Callable[[Transaction], Awaitable[T]],
    without_secret: Callable[[T], T] = lambda made: made,
) -> Response[T]:
    """The answer of a POST that makes something: with a key, the second time it is the first one's, without its secret.

    Raises AppError REQUEST_IN_PROGRESS, IDEMPOTENCY_KEY_REUSED, and as `make`.
    """
    key, person = request.headers.get("idempotency-key"), request.user
    async with transaction(request) as tx:
        if key is None:
            return Response(await make(tx))
        given = {"person": person.user_id, "given": key}
        fingerprint = hashlib.sha256(
            f"{person.tenant_id} {request.url.path}\n".encode() + await request.body()
        ).digest()
        kept = await _find(tx, person, given, fingerprint)
        if kept is not None:
            again: Response[Any] = Response(kept, media_type=MediaType.JSON, headers={"Idempotency-Replayed": "true"})
            return again
        made = await make(tx)
        body = strict_json.encode(without_secret(made))
        await tx.execute(KEEP, given | {"request": fingerprint, "answer": body})
        return Response(made)


async def _find(tx: Transaction, person: Person, given: dict[str, object], fingerprint: bytes) -> bytes | None:
    if not (await tx.execute(LOCK, {"what": f"{person.user_id} {given['given']}"})).scalar_one():
        raise AppError(Code.REQUEST_IN_PROGRESS, headers={"Retry-After": "1"})
    found = (await tx.execute(FIND, given)).first()
    if found is None:
        return None
    if found[0] != fingerprint:
        raise AppError(Code.IDEMPOTENCY_KEY_REUSED)
    return bytes(found[1])
