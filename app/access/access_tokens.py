"""Personal access tokens: what they look like, and what a worker knows of those that are used."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import string
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from app.access.actor import AccessToken
from app.access.permissions import Scope
from app.access.tokens import Bearer
from app.web.errors import AppError, Code

PREFIX = "crm_pat_"
ALPHABET = string.digits + string.ascii_letters
# So many letters of 62 kinds are a little more than 256 bits.
SECRET_LENGTH, CHECKSUM_LENGTH = 43, 6
TOKEN = re.compile(rf"({PREFIX}[0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})")
# Whoever is shut out is so within five seconds, streams included: a token is looked at anew after this time.
KNOWN_SECONDS = 2.0
MOST_KNOWN = 10_000
# Looked up at the same time, so that made-up ones leave connections to others.
MOST_AT_ONCE = 2
REVOKED = (
    "This access token is no longer good: it was revoked, or its person was signed out, deactivated, or has not logged"
    " in for 30 days. Log in, and make another one"
)
EXPIRED = "This access token has expired: log in, and make another one"


class Found(NamedTuple):
    """An access token as the database knows it, and its person as the last real token said."""

    tenant_id: str
    id: int
    user_id: str
    scope: str
    created_at: datetime
    expires_at: datetime
    is_revoked: bool
    role: str
    name: str | None
    email: str | None


# Finds a token by its hash. Raises AppError.
Find = Callable[[bytes], Awaitable[Found | None]]


def make_access_token() -> str:
    """A new token. Whoever has it needs nothing else."""
    token = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return token + _checksum(token)


def hashed(secret: str) -> bytes:
    """What is kept of a secret. It is random and long: a fast hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def is_access_token(token: str) -> bool:
    """Whether this is, or wants to be, an access token."""
    return token.startswith(PREFIX)


class AccessTokens:
    """Access tokens that were used lately, in one worker."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: OrderedDict[bytes, tuple[float, Bearer]] = OrderedDict()
        self._forgotten_at = 0.0
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def bearer(self, token: str) -> Bearer:
        """The owner of a token. Raises AppError INVALID_TOKEN, TOKEN_REVOKED, or SERVICE_UNAVAILABLE.

        A made-up one has a wrong checksum: it costs no connection.
        """
        match = TOKEN.fullmatch(token)
        if match is None or _checksum(match[1]) != match[2]:
            raise AppError(Code.INVALID_TOKEN)
        return await self.find(hashed(token))

    async def find(self, hash_: bytes) -> Bearer:
        """The owner of the token with this hash. Raises AppError as `bearer`."""
        kept = self._kept(hash_)
        if kept is None:
            async with self._turns:
                # Whoever waited may find what another one has read.
                kept = self._kept(hash_) or await self._read(hash_)
        if kept.claims["exp"] <= time.time():
            raise AppError(Code.INVALID_TOKEN, EXPIRED)
        return kept

    def forget(self) -> None:
        """Look at all tokens anew, after one was revoked here."""
        self._known.clear()
        self._forgotten_at = time.monotonic()

    def _kept(self, hash_: bytes) -> Bearer | None:
        read_at, bearer = self._known.get(hash_, (0.0, None))
        is_young = read_at >= max(self._forgotten_at, time.monotonic() - KNOWN_SECONDS)
        return bearer if is_young else None

    async def _read(self, hash_: bytes) -> Bearer:
        began = time.monotonic()
        self._known.pop(hash_, None)
        found = await self._find(hash_)
        if found is None:
            raise AppError(Code.INVALID_TOKEN)
        if found.is_revoked:
            raise AppError(Code.TOKEN_REVOKED, REVOKED)
        claims = {
            "role": found.role,
            "name": found.name,
            "email": found.email,
            "iat": found.created_at.timestamp(),
            "exp": found.expires_at.timestamp(),
        }
        known = AccessToken(found.id, Scope(found.scope), hash_)
        bearer = Bearer(found.user_id, (found.tenant_id,), claims, known)
        self._known[hash_] = began, bearer
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return bearer


def _checksum(text: str) -> str:
    """The CRC-32 of a text, as letters and digits."""
    number, letters = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        letters = ALPHABET[digit] + letters
    return letters
