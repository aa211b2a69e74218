"""Opaque, signed positions in a list."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from app.web.errors import Code, bad_field

SIGNATURE_BYTES = 16


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a walk stands, and what it is a walk of: a cursor means nothing elsewhere."""

    tenant_id: str
    listing: str
    filters: dict[str, Any]
    sort_by: str
    sort_order: str
    key: list[Any]


class CursorSigner:
    """Signs with the first secret and accepts all, as tokens are while their secret is changed."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Keys of their own, so that no cursor is ever a token.
        self._keys = [hmac.digest(secret.encode(), b"crm list cursor", "sha256") for secret in secrets]

    def encode(self, position: Position) -> str:
        """The position as text that fits into a URL."""
        payload = msgspec.json.encode(position)
        return urlsafe_b64encode(self._sign(self._keys[0], payload) + payload).decode().rstrip("=")

    def decode(self, cursor: str) -> Position:
        """Raises AppError INVALID_CURSOR for anything that this service did not sign."""
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            signature, payload = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
            # Some bits of the last character carry nothing: only the text that was given out is accepted.
            canonical = urlsafe_b64encode(raw).decode().rstrip("=") == cursor
            if canonical and any(hmac.compare_digest(signature, self._sign(key, payload)) for key in self._keys):
                return msgspec.json.decode(payload, type=Position)
        except ValueError:
            pass
        raise bad_field(Code.INVALID_CURSOR, "cursor")

    @staticmethod
    def _sign(key: bytes, payload: bytes) -> bytes:
        return hmac.digest(key, payload, "sha256")[:SIGNATURE_BYTES]
