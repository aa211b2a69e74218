"""Cursors: opaque, signed positions in a list."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from app.web.errors import Code, bad_field

SIGNATURE_BYTES = 16


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A position, and the list, filters and sort order that it belongs to: a cursor is valid only there."""

    tenant_id: str
    listing: str
    filters: dict[str, Any]
    sort_by: str
    sort_order: str
    key: list[Any]


class CursorSigner:
    """Signs with the first secret and accepts all, so that cursors stay valid while the secret is replaced."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Derived keys, so that a cursor can never be used as a token.
        self._keys = [hmac.digest(secret.encode(), b"crm list cursor", "sha256") for secret in secrets]

    def encode(self, position: Position) -> str:
        """The position as text for a URL."""
        payload = msgspec.json.encode(position)
        return urlsafe_b64encode(self._sign(self._keys[0], payload) + payload).decode().rstrip("=")

    def decode(self, cursor: str) -> Position:
        """The position. Raises AppError INVALID_CURSOR if this service did not sign the cursor."""
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            signature, payload = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
            # Some bits of the last character mean nothing: accept only the exact text that was given out.
            canonical = urlsafe_b64encode(raw).decode().rstrip("=") == cursor
            if canonical and any(hmac.compare_digest(signature, self._sign(key, payload)) for key in self._keys):
                return msgspec.json.decode(payload, type=Position)
        except ValueError:
            pass
        raise bad_field(Code.INVALID_CURSOR, "cursor")

    @staticmethod
    def _sign(key: bytes, payload: bytes) -> bytes:
        return hmac.digest(key, payload, "sha256")[:SIGNATURE_BYTES]
