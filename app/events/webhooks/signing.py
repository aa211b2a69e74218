"""What receivers verify: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_BYTES = 32
# The name of the columns that hold secrets, for their encryption.
SECRET = "webhook_states.secret"  # noqa: S105 -- a name


def new_secret() -> str:
    """A secret, as receivers take it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def message_id(webhook_id: int, sequence: int) -> str:
    """The id by which a receiver knows an event that it got before: the same for every attempt."""
    return f"msg_{webhook_id}_{sequence}"


def signed(message: str, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """The headers of a message that is sent now. Each of the secrets signs it."""
    now = datetime.now(UTC)
    text = body.decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(message, now, text) for key in keys),
    }
