"""Encryption of secrets that are kept in the database, bound to the row that they belong to."""

from __future__ import annotations

import hashlib
from functools import cached_property

from app.crypto.cipher import Cipher, UnreadableError
from app.settings import Settings
from app.web.errors import AppError, Code

KEY_ID_BYTES = 4
NOT_SET = "This service keeps no secrets: ENCRYPTION_KEYS is not set"


class Keys:
    """The keys of ENCRYPTION_KEYS. The first one encrypts, each of them decrypts."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {_key_id(key): key for key in settings.encryption_key_bytes}

    @cached_property
    def _ciphers(self) -> dict[bytes, Cipher]:
        return {key_id: Cipher(key) for key_id, key in self._keys.items()}

    def encrypt(self, secret: str, *row: object) -> bytes:
        """The secret, to be stored in this row: the name of its column, its tenant and its id.

        Raises AppError SERVICE_UNAVAILABLE if there is no key.
        """
        if not self._keys:
            raise AppError(Code.SERVICE_UNAVAILABLE, NOT_SET)
        key_id, cipher = next(iter(self._ciphers.items()))
        return key_id + cipher.encrypt(secret.encode(), _bound_to(row))

    def decrypt(self, stored: bytes, *row: object) -> str:
        """The secret that was stored in this row. Raises UnreadableError."""
        cipher = self._ciphers.get(stored[:KEY_ID_BYTES])
        if cipher is None:
            raise UnreadableError("no key in ENCRYPTION_KEYS decrypts it")
        return cipher.decrypt(stored[KEY_ID_BYTES:], _bound_to(row)).decode()

    def is_current(self, stored: bytes) -> bool:
        """Whether the first key encrypted it."""
        return stored[:KEY_ID_BYTES] == next(iter(self._keys), None)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


def _bound_to(row: tuple[object, ...]) -> bytes:
    return "\0".join(map(str, row)).encode()
