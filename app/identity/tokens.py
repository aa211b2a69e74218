"""The tokens: access tokens, as the CMS issues them, and secrets of 256 bits, of which only hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import jwt
from msgspec import Struct

from app.settings import Settings

SECRET_BYTES = 32
ISSUER, AUDIENCE = "crm-identity", "platform-console"
REFRESH = b"crm identity refresh token"


class Bearer(Struct, frozen=True):
    """Whom an access token is for, and where it works."""

    user_id: UUID
    email: str
    name: str
    role: str
    organization_id: str


def access_token(settings: Settings, bearer: Bearer, token_id: UUID, issued_at: datetime) -> str:
    """The token that the CRM verifies."""
    # With fractions: who is signed out and logs in again in the same second has a token from before and one from after.
    now = issued_at.timestamp()
    claims = {
        "sub": str(bearer.user_id),
        "user_id": str(bearer.user_id),
        "email": bearer.email,
        "name": bearer.name,
        "role": bearer.role,
        "tenant_id": bearer.organization_id,
        "iss": settings.issuers[0] if settings.issuers else ISSUER,
        "aud": list(settings.audiences) or [AUDIENCE],
        "iat": now,
        "exp": int(now) + 60 * settings.access_token_minutes,
        "jti": str(token_id),
    }
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")


def new_secret() -> str:
    """A secret for a refresh token or a link."""
    return _as_text(secrets.token_bytes(SECRET_BYTES))


def hash_of(secret: str) -> bytes:
    """What is kept of a secret. It has 256 random bits, so that a fast hash is enough."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def successors(settings: Settings, secret: str) -> Iterator[str]:
    """The refresh token that follows on this one, under each secret of the settings, the present one first.

    It follows from the old one, so that who asks twice gets the same, although only hashes are kept. Without the
    settings' secret nobody can work it out.
    """
    for key in settings.jwt_secrets:
        yield _as_text(hmac.digest(hmac.digest(key.encode(), REFRESH, "sha256"), secret.encode(), "sha256"))


def _as_text(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")
