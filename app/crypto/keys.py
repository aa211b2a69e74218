"""Encryption of secrets that are kept in the database: AES-256-GCM, bound to the row that they belong to."""

from __future__ import annotations

import hashlib
import secrets
from functools import cached_property
from typing import TYPE_CHECKING

from app.settings import Settings
from app.web.errors import AppError, Code

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_ID_BYTES, NONCE_BYTES = 4, 12
NOT_SET = "This service keeps no secrets: ENCRYPTION_KEYS is not set"


class UnreadableError(Exception):
    """A secret was encrypted with a key that is no longer in ENCRYPTION_KEYS, or it was moved or changed."""


class Keys:
    """The keys of ENCRYPTION_KEYS. The first one encrypts, each of them decrypts."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {_key_id(key): key for key in settings.encryption_key_bytes}

    @cached_property
    def _ciphers(self) -> dict[bytes, AESGCM]:
        # Inside the function, because the library takes some megabytes, and few workers need it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return {key_id: AESGCM(key) for key_id, key in self._keys.items()}

    def encrypt(self, secret: str, *row: object) -> bytes:
        """The secret, to be stored in this row: the name of its column, its tenant and its id.

        Raises AppError SERVICE_UNAVAILABLE if there is no key.
        """
        if not self._keys:
            raise AppError(Code.SERVICE_UNAVAILABLE, NOT_SET)
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return key_id + nonce + cipher.encrypt(nonce, secret.encode(), _bound_to(row))

    def decrypt(self, stored: bytes, *row: object) -> str:
        """The secret that was stored in this row. Raises UnreadableError."""
        cipher = self._ciphers.get(stored[:KEY_ID_BYTES])
        if cipher is None:
            raise UnreadableError("no key in ENCRYPTION_KEYS decrypts it")
        # Inside the function, as in `_ciphers`.
        from cryptography.exceptions import InvalidTag

        nonce, encrypted = stored[KEY_ID_BYTES:][:NONCE_BYTES], stored[KEY_ID_BYTES + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, encrypted, _bound_to(row)).decode()
        except InvalidTag:
            raise UnreadableError("it does not belong to this row, or was changed") from None

    def is_current(self, stored: bytes) -> bool:
        """Whether the first key encrypted it."""
        return stored[:KEY_ID_BYTES] == next(iter(self._keys), None)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


def _bound_to(row: tuple[object, ...]) -> bytes:
    return "\0".join(map(str, row)).encode()
