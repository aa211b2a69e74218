"""Answers that are kept under a client's Idempotency-Key, stored in the same transaction as the work itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Interval, Update, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.models import IdempotencyKey
from app.records.transaction import KeptAnswer, Transaction
from app.web.errors import AppError, Code

KEPT_FOR = timedelta(hours=24)


class Replay(Exception):
    """The request was answered before: `answer` is that answer."""

    def __init__(self, answer: KeptAnswer) -> None:
        self.answer = answer


_keys = IdempotencyKey.__table__.c
_mine = (_keys.user_id == bindparam("mine"), _keys.key == bindparam("given"))
_LOCK = select(func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("name"), 0)))
_FIND = select(_keys.fingerprint, *(_keys[name] for name in KeptAnswer.__struct_fields__)).where(
    *_mine, _keys.created_at >= func.now() - bindparam("kept_for", type_=Interval)
)
_fresh: dict[str, Any] = {
    "fingerprint": bindparam("fingerprint"),
    "created_at": func.now(),
    **dict.fromkeys(KeptAnswer.__struct_fields__),
}
_RESERVE = (
    insert(IdempotencyKey)
    .values({name: bindparam(name) for name in ("tenant_id", "user_id", "key", "fingerprint")})
    .on_conflict_do_update(
        index_elements=["tenant_id", "user_id", "key"], set_=_fresh, where=_keys.created_at < func.now() - KEPT_FOR
    )
    .returning(_keys.key)
)
_FINISH = (
    update(IdempotencyKey)
    .where(*_mine)
    .values({name: bindparam(f"answered_{name}") for name in KeptAnswer.__struct_fields__})
)
_REPLACE = _FINISH.where(_keys.body.is_not(None))


async def reserve(tx: Transaction, key: str, fingerprint: bytes) -> None:
    """Take the key for this request, before it does anything.

    Raises Replay if the same request was answered before, AppError REQUEST_IN_PROGRESS while it runs, and
    IDEMPOTENCY_KEY_REUSED if the key was used for another request, ANSWER_ERASED if what it answered was erased since.
    """
    name = "\x1f".join((tx.actor.tenant_id, tx.actor.user_id, key))
    if not (await tx.connection.execute(_LOCK, {"name": name})).scalar_one():
        raise AppError(Code.REQUEST_IN_PROGRESS, headers={"Retry-After": "1"})
    mine = {"tenant_id": tx.actor.tenant_id, "user_id": tx.actor.user_id, "key": key, "fingerprint": fingerprint}
    if (await tx.connection.execute(_RESERVE, mine)).one_or_none():
        return
    await recall(tx, key, fingerprint)


async def recall(tx: Transaction, key: str, fingerprint: bytes) -> None:
    """Raise Replay, IDEMPOTENCY_KEY_REUSED or ANSWER_ERASED as `reserve` does, without taking the key."""
    found = await tx.connection.execute(_FIND, {"mine": tx.actor.user_id, "given": key, "kept_for": KEPT_FOR})
    kept = found.one_or_none()
    if kept is None:
        return
    kept_fingerprint, *answer = kept
    if kept_fingerprint != fingerprint:
        raise AppError(Code.IDEMPOTENCY_KEY_REUSED)
    answered = KeptAnswer(*answer)
    if answered.body is None:
        raise AppError(Code.ANSWER_ERASED)
    raise Replay(answered)


async def keep(tx: Transaction, key: str, answer: KeptAnswer) -> None:
    """Store the answer under the key that was reserved."""
    await _store(tx, key, answer, _FINISH)


async def keep_instead(tx: Transaction, key: str, answer: KeptAnswer) -> None:
    """Store it in place of the answer that is kept, unless that was erased meanwhile."""
    await _store(tx, key, answer, _REPLACE)


async def _store(tx: Transaction, key: str, answer: KeptAnswer, statement: Update) -> None:
    answered = {f"answered_{name}": value for name, value in asdict(answer).items()}
    await tx.connection.execute(statement, {"mine": tx.actor.user_id, "given": key, **answered})
