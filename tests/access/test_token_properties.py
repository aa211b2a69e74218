"""Tokens of all kinds: what holds whatever they say."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from app.access.permissions import Role
from app.web.errors import AppError
from tests.access.test_tokens import CMS, PAYLOAD, SECRET, SIGNATURE, actor, encoded, refusal, signed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Making up JSON takes its time on a busy machine.
patiently = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
CLAIMS = "sub user_id role roles tenant_id tenant_ids exp nbf iat iss aud name email permissions jti".split()


@patiently
@given(st.dictionaries(st.sampled_from(CLAIMS), JSON), st.booleans())
def test_whatever_the_claims_are_it_is_a_sound_actor_or_a_refusal(claims: dict[str, Any], alone: bool) -> None:
    try:
        person = actor(signed(claims if alone else CMS | claims))
    except AppError as refused:
        if refused.status not in {400, 401, 403}:
            raise
        return
    assert isinstance(person.role, Role)
    for text in (person.user_id, person.tenant_id):
        assert 1 <= len(text) <= 64
        assert "\0" not in text
        assert text.encode()


@patiently
@given(st.dictionaries(st.sampled_from(CLAIMS), JSON), st.text(st.characters(codec="ascii"), min_size=32, max_size=60))
def test_no_other_secret_lets_anybody_in(claims: dict[str, Any], secret: str) -> None:
    if secret != SECRET:
        assert refusal(signed(CMS | claims, secret)) == (401, "INVALID_TOKEN")


@patiently
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "jwk", "jku", "x5c", "crit", "b64", "cty", "zip"]), JSON))
def test_no_header_stands_in_for_a_signature(header: dict[str, Any]) -> None:
    for signature in ("", SIGNATURE):
        assert refusal(f"{encoded(header)}.{PAYLOAD}.{signature}") == (401, "INVALID_TOKEN")
