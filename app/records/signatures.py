"""Statements that the service signs, to know them again: with AUDIT_KEY, or else with JWT_SECRET."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from app.settings import Settings
from app.web import strict_json

CHECKPOINT = b"crm audit checkpoint"
RECEIPT = b"crm erasure receipt"
FILE = b"crm file of a job"
UNSUBSCRIBE = b"crm unsubscribe"


def sign(settings: Settings, kind: bytes, body: Mapping[str, Any]) -> str:
    """The signature of a statement of this kind."""
    return _signature(settings.audit_keys[0], kind, body)


def is_signed(settings: Settings, kind: bytes, body: Mapping[str, Any], signature: str) -> bool:
    """Whether this service signed the statement, with its present secret or the one before."""
    # As bytes: texts are compared only if they are ASCII.
    given = signature.encode(errors="replace")
    return any(hmac.compare_digest(given, _signature(key, kind, body).encode()) for key in settings.audit_keys)


def _signature(secret: str, kind: bytes, body: Mapping[str, Any]) -> str:
    key = hmac.digest(secret.encode(), kind, "sha256")
    return hmac.digest(key, strict_json.encode_sorted(body), "sha256").hex()
