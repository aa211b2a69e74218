"""Passwords: what one may be, and their hashes, which are made one after the other."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Annotated, TypeVar

from msgspec import Meta

from app.settings import Settings
from app.web.email import fold_email
from app.web.errors import AppError, Code, Fault, invalid
from app.web.text import normalized

SHORTEST, LONGEST = 8, 128
# Nobody waits for a hash who would wait for longer, as far as one can tell.
LONGEST_WAIT_SECONDS = 3.0
MOST_FOR_EACH_CORE = 16
# How much the newest hash counts in what one is expected to take.
WEIGHT = 0.2
# Where in a hash its parameters stand, between dollar signs.
PARAMETERS = 3
# Hashing lets everything else on this machine go first.
NICENESS = 10

# What is only compared may be longer: then it is wrong, and not refused.
Password = Annotated[str, Meta(min_length=1, max_length=1024, description="A password", extra={"clean": normalized})]
NewPassword = Annotated[
    str,
    Meta(
        min_length=SHORTEST,
        max_length=LONGEST,
        description="8 to 128 characters; none of the most common passwords, and not the email address",
        examples=["correct horse battery staple"],
        extra={"clean": normalized},
    ),
]

T = TypeVar("T")


def require_good(password: str, email: str, field: str = "password") -> None:
    """Raises AppError for a password that others would guess."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise invalid(Fault(field, f"must have {SHORTEST} to {LONGEST} characters"))
    lowered = password.casefold()
    if lowered in _common():
        raise invalid(Fault(field, "is one of the most common passwords: choose another one"))
    folded = fold_email(email)
    if fold_email(password) in {folded, folded.rpartition("@")[0]}:
        raise invalid(Fault(field, "must not be the email address"))


@cache
def _common() -> frozenset[str]:
    # Inside the function, because what checks no new password need not load the list.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])


class PasswordHashes:
    """Makes and verifies hashes, as many at once as there are cores. Others wait their turn, up to a limit."""

    def __init__(self, settings: Settings) -> None:
        # Inside the function, because the commands are there without the extra, too.
        from argon2 import PasswordHasher, exceptions

        cores = len(os.sched_getaffinity(0))
        self._wrong = (exceptions.VerificationError, exceptions.InvalidHashError)
        self._hasher = PasswordHasher(
            time_cost=settings.password_hash_time, memory_cost=settings.password_hash_memory_kib, parallelism=1
        )
        self._threads = ThreadPoolExecutor(cores, "password-hashes", initializer=_give_way)
        self._cores = cores
        self._open = 0
        # Of one hash with the settings' parameters, to begin with.
        began = time.monotonic()
        self._parameters = self._hasher.hash(os.urandom(16).hex()).split("$")[PARAMETERS]
        self._seconds = time.monotonic() - began

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What needs a hash runs inside. Who would wait too long is refused before anything is done.

        Raises AppError RATE_LIMITED.
        """
        for_each = self._open / self._cores
        if for_each >= MOST_FOR_EACH_CORE or (for_each >= 1 and for_each * self._seconds > LONGEST_WAIT_SECONDS):
            raise AppError(
                Code.RATE_LIMITED, "Too many people log in at this moment: try again", headers={"Retry-After": "2"}
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def hash(self, password: str) -> str:
        """The hash of a new password."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, known: str | None, password: str, in_use: Collection[str] = ()) -> bool:
        """Whether it is the password with this hash. For nobody's, None, it takes as long: one hash is made with the
        settings' parameters, and one with each of those `in_use`, whichever of them `known` has.
        """
        return await self._run(lambda: self._is_right(known, password, {self._parameters, *in_use}))

    def is_outdated(self, known: str) -> bool:
        """Whether the settings ask for another hash of this password."""
        return self._hasher.check_needs_rehash(known)

    def _is_right(self, known: str | None, password: str, in_use: set[str]) -> bool:
        hashes = {parameters: _nobodys(parameters) for parameters in in_use}
        if known is not None:
            hashes[known.split("$")[PARAMETERS]] = known
        found = False
        for each in hashes.values():
            with suppress(*self._wrong):
                found |= self._hasher.verify(each, password) and each is known
        return found

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._measured, work)

    def _measured(self, work: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += WEIGHT * (time.monotonic() - began - self._seconds)


def _nobodys(parameters: str) -> str:
    """A hash with these parameters that no password has, as far as anybody will ever find out."""
    salt, key = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19${parameters}${salt}${key}"


def _give_way() -> None:
    with suppress(OSError, AttributeError):
        # On Linux this is about one thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
