"""AES-256-GCM: what one key encrypts, bound to where it belongs."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class UnreadableError(Exception):
    """Something was encrypted with another key, or for another place, or it was changed since."""


class Cipher:
    """Encrypts with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def encrypt(self, value: bytes, place: bytes) -> bytes:
        """The value, readable for this place only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, place)

    def decrypt(self, encrypted: bytes, place: bytes) -> bytes:
        """The value that was encrypted for this place. Raises UnreadableError."""
        try:
            return self._aead.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise UnreadableError("it was not encrypted for this place by this key, or was changed since") from None
