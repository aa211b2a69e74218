"""Links that stop mails: signed, so that whoever has one can stop these mails and nothing else."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

from msgspec import DecodeError, Struct, json, to_builtins

from app.records.signatures import UNSUBSCRIBE, is_signed, sign
from app.settings import Settings
from app.web.errors import AppError, Code

MOST_CHARACTERS = 2000
# In place of a kind of notification.
DIGEST = "digest"


class Stop(Struct, frozen=True, omit_defaults=True):
    """Which mails a link stops: a person's of one kind, or one report to an address."""

    tenant: str
    user: int | str | None = None
    what: str | None = None
    schedule: int | None = None
    address: str | None = None


def stop_link(settings: Settings, stop: Stop) -> str | None:
    """The link, if this service has public addresses. It is valid as long as the secret that signed it."""
    if not settings.has_public_links:
        return None
    address = settings.public_url or f"http://localhost:{settings.server_port}"
    encoded = urlsafe_b64encode(json.encode(stop)).decode().rstrip("=")
    return f"{address.rstrip('/')}/public/unsubscribe/{encoded}.{sign(settings, UNSUBSCRIBE, to_builtins(stop))}"


def read_stop(settings: Settings, segment: str) -> Stop:
    """What a link stops that this service has signed. Raises AppError NOT_FOUND."""
    encoded, _, signature = segment.partition(".")
    try:
        if len(segment) > MOST_CHARACTERS:
            raise AppError(Code.NOT_FOUND)
        stop = json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=Stop)
    except (ValueError, binascii.Error, DecodeError):
        raise AppError(Code.NOT_FOUND) from None
    if not is_signed(settings, UNSUBSCRIBE, to_builtins(stop), signature):
        raise AppError(Code.NOT_FOUND)
    return stop
