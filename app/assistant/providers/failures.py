"""What a provider's refusal means, in words for people."""

from __future__ import annotations

from collections.abc import Mapping

from app.assistant.provider import Kind, Model, ProviderError, cleaned

# What providers call it, wherever they say it: in the type, in the code or in the text of an error.
USED_UP = ("insufficient_quota", "billing", "credit balance", "exceeded your current quota", "spend limit")
TOO_LONG = (
    *("context_length_exceeded", "exceed_context_size", "context size", "prompt is too long", "request_too_large"),
    *("maximum context length", "input token count"),
)
MESSAGES: Mapping[Kind, str] = {
    "key_refused": "The provider refuses the key of the assistant: an admin can set another in the settings",
    "quota": "The account at the assistant's provider is used up: an admin can raise its limit at the provider",
    "overloaded": "The provider has too much to do, or gets too many requests of this key: try again in a moment",
    "too_long": "The conversation is too long for this model: begin a new one",
    "ended_early": "The provider ended the answer in the middle: ask again",
    "unreachable": "The provider can't be reached: try again in a moment",
}
LONGEST = 200
LONGEST_WAIT = 3600.0


def refused(model: Model, status: int, said: str, headers: Mapping[str, str]) -> ProviderError:
    """The error for an answer with this status. `said` is all that the provider said about it."""
    lower = said.lower()
    if status == 402 or any(sign in lower for sign in USED_UP):
        kind: Kind = "quota"
    elif status in {401, 403} or (status == 400 and ("api key not valid" in lower or "api_key_invalid" in lower)):
        kind = "key_refused"
    elif status == 413 or (status == 400 and any(sign in lower for sign in TOO_LONG)):
        kind = "too_long"
    elif status in {408, 409, 429} or status >= 500:
        kind = "overloaded"
    elif status == 404:
        return ProviderError("other", f"The provider knows no model {model.name!r}, or has nothing at this address")
    else:
        return ProviderError("other", f"The provider refused the request ({status}): {_one_line(said)}")
    return ProviderError(kind, MESSAGES[kind], _seconds(headers.get("retry-after")))


def failed(kind: Kind, why: str | None = None) -> ProviderError:
    """The error of this kind. `why` stands in place of what is usually said of it."""
    return ProviderError(kind, why or MESSAGES[kind])


def _one_line(text: str) -> str:
    line: str = " ".join(cleaned(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else min(max(float(text), 0.0), LONGEST_WAIT)
    except ValueError:  # a date, which no provider sends
        return None
