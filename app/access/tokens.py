"""From an Authorization header to an Actor: see docs/api.md#tokens. The CMS issues tokens; we verify them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import jwt
from litestar.datastructures import Headers
from msgspec import Struct, field

from app.access.actor import AccessToken, Actor
from app.access.permissions import RANK, Role
from app.access.tenants import is_tenant_id
from app.settings import Settings
from app.web.errors import AppError, Code
from app.web.structs import is_user_id
from app.web.text import CONTROL, INVISIBLE, is_text, trimmed

LEEWAY_SECONDS = 30
LAST_SECOND_OF_9999 = 253_402_300_799
MAX_NAME_LENGTH = 255
DEFAULT_TENANT = "default"
# Verified tokens are cached. Tokens of the CMS have less than a thousand characters.
MAX_CACHED = 10_000
MAX_CACHED_LENGTH = 2048


class RefusedTokenError(AppError):
    """INVALID_TOKEN, with the reason for whoever runs the service."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(Code.INVALID_TOKEN, message)
        self.reason = reason


class Bearer(Struct, frozen=True):
    """The owner of a valid token, before role and organization are decided."""

    user_id: str
    tenants: tuple[str, ...]
    claims: Mapping[str, Any]
    # Where it is none of the CMS: then the role is as we name it.
    access_token: AccessToken | None = None
    # As whom it lets somebody in, by organization: made once.
    actors: dict[str, Actor] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, ...]:
        """The key of this person, for rate limits."""
        return (self.user_id, *self.tenants)

    @property
    def email(self) -> str | None:
        """The person's email, if the token says it."""
        return _text_claim(self.claims, "email")

    @property
    def issued_at(self) -> float | None:
        """When the token was issued, in seconds since 1970, if it says so."""
        issued_at: float | None = self.claims.get("iat")
        return issued_at

    def tenant(self, headers: Headers) -> str:
        """The organization that a request is for. Raises AppError 403, or 400 if one must be chosen."""
        return _select_tenant(self.tenants, headers.getall("x-organization-id", []))


class TokenVerifier:
    """Verifies tokens by the secrets and rules in the settings."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = settings.jwt_secrets
        self._issuers = settings.issuers
        self._audiences = settings.audiences
        self._aliases = settings.aliases
        self._require_tenant = settings.jwt_require_tenant
        self._cache: dict[str, Bearer] = {}

    def actor(self, headers: Headers) -> Actor:
        """The person who sends these headers. Raises AppError as `bearer` and `person`."""
        return self.person(self.bearer(bearer_token(headers)), headers)

    def person(self, bearer: Bearer, headers: Headers) -> Actor:
        """The owner of a token, with role and organization.

        Raises AppError 403 for these, and 400 if an organization must be chosen.
        """
        if bearer.actors and (known := bearer.actors.get(bearer.tenant(headers))) is not None:
            return known
        claims = bearer.claims
        role = self._role(claims) if bearer.access_token is None else Role(claims["role"])
        tenant_id = bearer.tenant(headers)
        audience = claims.get("aud") or ()
        bearer.actors[tenant_id] = actor = Actor(
            user_id=bearer.user_id,
            tenant_id=tenant_id,
            role=role,
            token_role=role,
            roles=tuple(claims.get("roles") or [role.value]),
            name=_text_claim(claims, "name"),
            email=bearer.email,
            token_permissions=tuple(claims.get("permissions") or ()),
            issued_at=bearer.issued_at,
            expires_at=claims["exp"],
            audiences=(audience,) if isinstance(audience, str) else tuple(audience),
            access_token=bearer.access_token,
        )
        return actor

    def bearer(self, token: str) -> Bearer:
        """Verify a token. Valid ones are cached until they expire, since verifying takes longer than some answers.

        Raises AppError 401.
        """
        kept = self._cache.get(token)
        if kept is not None and kept.claims["exp"] > time.time() - LEEWAY_SECONDS:
            return kept
        claims = self._claims(token)
        self._check_shape(claims)
        tenants = _tenants(claims, require=self._require_tenant)
        bearer = Bearer(_user_id(claims), tenants, claims)
        if not _role_names(claims):
            raise AppError(Code.MISSING_ROLE)
        if len(token) <= MAX_CACHED_LENGTH:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[token] = bearer
        return bearer

    def _claims(self, token: str) -> dict[str, Any]:
        for secret in self._secrets:
            try:
                return jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    leeway=LEEWAY_SECONDS,
                    issuer=list(self._issuers) or None,
                    audience=list(self._audiences) or None,
                    options={
                        "require": ["exp"],
                        "verify_sub": False,  # it may be an integer here; _user_id checks it
                        "verify_jti": False,
                        "verify_aud": bool(self._audiences),
                        "verify_iss": bool(self._issuers),
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise RefusedTokenError("expired", "The token has expired: log in again") from None
            except jwt.ImmatureSignatureError:
                raise RefusedTokenError("early") from None
            except jwt.InvalidIssuerError:
                raise AppError(Code.INVALID_ISSUER if self._issuers else Code.INVALID_TOKEN) from None
            except jwt.MissingRequiredClaimError as error:
                raise AppError(Code.INVALID_ISSUER if error.claim == "iss" else Code.INVALID_TOKEN) from None
            # A lone surrogate in a token raises UnicodeEncodeError, a huge number OverflowError.
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                raise AppError(Code.INVALID_TOKEN) from None
        raise RefusedTokenError("signature")

    def _check_shape(self, claims: Mapping[str, Any]) -> None:
        for name in ("exp", "iat", "nbf"):
            value = claims.get(name)
            if name in claims and not (type(value) is int or (type(value) is float and math.isfinite(value))):
                raise _invalid_claim(name)
        if claims["exp"] > LAST_SECOND_OF_9999:
            raise _invalid_claim("exp")
        for name in ("name", "email", "iss", "role", "jti"):
            if claims.get(name) is not None and not is_text(claims[name]):
                raise _invalid_claim(name)
        for name in ("roles", "permissions"):
            value = claims.get(name)
            if value is not None and not (isinstance(value, list) and all(is_text(item) for item in value)):
                raise _invalid_claim(name)
        audience = claims.get("aud")
        if audience is not None and not (
            is_text(audience) or (isinstance(audience, list) and all(is_text(item) for item in audience))
        ):
            raise _invalid_claim("aud")

    def _role(self, claims: Mapping[str, Any]) -> Role:
        lowered = [name.lower() for name in _role_names(claims)]
        known = [Role(name) for name in (self._aliases.get(name, name) for name in lowered) if name in set(Role)]
        if not known:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS, "The token's role is not admin, manager or agent")
        return max(known, key=RANK.__getitem__)


def bearer_token(headers: Headers) -> str:
    """The token of a request. Raises AppError 401."""
    values = headers.getall("authorization", [])
    if not values:
        raise AppError(Code.MISSING_TOKEN)
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token or " " in token:
        raise AppError(Code.INVALID_TOKEN_FORMAT)
    return token


def _role_names(claims: Mapping[str, Any]) -> list[str]:
    stated = _text_claim(claims, "role")
    return [stated] if stated else [name.strip() for name in claims.get("roles") or () if name.strip()]


def _user_id(claims: Mapping[str, Any]) -> str:
    stated = [claims[name] for name in ("user_id", "sub") if name in claims]
    if not stated:
        raise _invalid_claim("sub")
    for value in stated:
        if not (type(value) is int or is_text(value)) or not is_user_id(str(value)):
            raise _invalid_claim("sub")
    ids = {str(value) for value in stated}
    if len(ids) > 1:
        raise _invalid_claim("sub")
    return ids.pop()


def _tenants(claims: Mapping[str, Any], *, require: bool) -> tuple[str, ...]:
    """The organizations that the token is valid for, at least one.

    A claim that is present decides, even if it is empty. Only a token without both claims works in the default one.
    """
    if "tenant_id" in claims and not is_tenant_id(claims["tenant_id"]):
        raise _invalid_claim("tenant_id")
    if "tenant_ids" in claims:
        tenants = claims["tenant_ids"]
        if not (isinstance(tenants, list) and tenants and all(is_tenant_id(tenant) for tenant in tenants)):
            raise _invalid_claim("tenant_ids")
        return tuple(tenants)
    if "tenant_id" in claims:
        return (claims["tenant_id"],)
    if require:
        raise AppError(Code.MISSING_TENANT)
    return (DEFAULT_TENANT,)


def _select_tenant(tenants: tuple[str, ...], wanted: list[str]) -> str:
    if not wanted:
        if len(set(tenants)) > 1:
            raise AppError(Code.ORGANIZATION_REQUIRED)
        return tenants[0]
    # Headers are bytes: other characters than ASCII come as UTF-8.
    names = {value.encode("latin-1").decode("utf-8", "replace") for value in wanted}
    if len(names) > 1 or not names <= set(tenants):
        raise AppError(Code.ORGANIZATION_FORBIDDEN)
    return names.pop()


def _text_claim(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim of text, or None if it is blank. It is shortened, since it is stored with each audit entry."""
    text = trimmed(CONTROL.sub(" ", claims.get(name) or "")[:MAX_NAME_LENGTH])
    return None if INVISIBLE.fullmatch(text) else text


def _invalid_claim(claim: str) -> AppError:
    return AppError(Code.INVALID_TOKEN, f"The token's claim {claim} is not valid")
