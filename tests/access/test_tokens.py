"""The corpus of tokens: what gets in, as whom, and what does not."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.datastructures import Headers

from app.access.actor import Actor
from app.access.permissions import Role
from app.access.tokens import TokenVerifier
from app.settings import Settings
from app.web.errors import AppError

SECRET = "the secret that the CMS and this service share"
NOW = int(time.time())
CMS = {
    "sub": "6f9619ff-8b86-4d11-b42d-00c04fc964ff",
    "email": "a@example.com",
    "role": "admin",
    "permissions": ["read:sources"],
    "iss": "cms-service",
    "aud": ["platform-console"],
    "iat": NOW,
    "exp": NOW + 7200,
}


def signed(claims: dict[str, Any], secret: str = SECRET, **more: Any) -> str:
    # Not jwt.encode, which refuses some of the nonsense that a forger would not.
    return jwt.PyJWS().encode(json.dumps(claims).encode(), secret, "HS256", **more)


def without(*names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in CMS.items() if name not in names} | more


def actor(token: str, *, organization: str | None = None, **settings: Any) -> Actor:
    headers = {"Authorization": f"Bearer {token}"} | ({"X-Organization-Id": organization} if organization else {})
    return TokenVerifier(Settings(jwt_secret=SECRET, **settings)).actor(Headers(headers))


def refusal(token: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(AppError) as caught:
        actor(token, **more)
    return caught.value.status, caught.value.code.name


def test_a_token_as_the_cms_issues_it_is_an_actor_of_the_default_tenant() -> None:
    assert actor(signed(CMS)) == Actor(
        user_id=str(CMS["sub"]),
        tenant_id="default",
        role=Role.ADMIN,
        roles=("admin",),
        email="a@example.com",
        token_permissions=("read:sources",),
        token_role=Role.ADMIN,
        issued_at=NOW,
        expires_at=NOW + 7200,
        audiences=("platform-console",),
    )


ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an integer sub": (without(sub=42), {"user_id": "42"}),
    "user_id equal to sub": (without(user_id=CMS["sub"]), {"user_id": CMS["sub"]}),
    "user_id alone": (without("sub", user_id=7), {"user_id": "7"}),
    "user_id 7 and sub '7'": (without(user_id=7, sub="7"), {"user_id": "7"}),
    "a role with blanks and capitals": (without(role=" Manager "), {"role": Role.MANAGER}),
    "an alias": (without(role="SalesRep"), {"role": Role.AGENT}),
    "the highest of roles": (without("role", roles=["agent", "manager"]), {"role": Role.MANAGER}),
    "role before roles": (without(role="agent", roles=["admin"]), {"role": Role.AGENT}),
    "a tenant": (without(tenant_id="acme"), {"tenant_id": "acme"}),
    "one of tenant_ids": (without(tenant_ids=["acme"], tenant_id="other"), {"tenant_id": "acme"}),
    "a tenant with blanks inside": (without(tenant_id="Acme & Söhne GmbH"), {"tenant_id": "Acme & Söhne GmbH"}),
    "a tenant of 64 letters": (without(tenant_id="ü" * 64), {"tenant_id": "ü" * 64}),
    "the same organization twice": (without(tenant_ids=["acme", "acme"]), {"tenant_id": "acme"}),
    "a role before blank roles": (without(roles=[" "]), {"role": Role.ADMIN}),
    "roles behind a blank role": (without(role=" ", roles=["agent"]), {"role": Role.AGENT}),
    "a blank name": (without(name=" ", email=""), {"name": None, "email": None}),
    "a fraction of a second": (without(exp=NOW + 7200.5), {}),
    "no name": (without(name=None, email=None), {"name": None}),
}


@pytest.mark.parametrize(("claims", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_it_is_accepted(claims: dict[str, Any], expected: dict[str, Any]) -> None:
    person = actor(signed(claims))
    assert {name: getattr(person, name) for name in expected} == expected


def test_clocks_may_differ_by_thirty_seconds() -> None:
    now = int(time.time())
    assert actor(signed(without(exp=now - 20, iat=now + 20, nbf=now + 20)))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": (without(exp=NOW - 60), "INVALID_TOKEN"),
    "without exp": (without("exp"), "INVALID_TOKEN"),
    "exp as text": (without(exp=str(NOW + 7200)), "INVALID_TOKEN"),
    "exp in milliseconds": (without(exp=(NOW + 7200) * 1000), "INVALID_TOKEN"),
    "exp true": (without(exp=True), "INVALID_TOKEN"),
    "exp null": (without(exp=None), "INVALID_TOKEN"),
    "exp infinite": (without(exp=float("inf")), "INVALID_TOKEN"),
    "exp a list": (without(exp=[NOW + 7200]), "INVALID_TOKEN"),
    "not yet valid": (without(nbf=NOW + 3600), "INVALID_TOKEN"),
    "nbf as text": (without(nbf="soon"), "INVALID_TOKEN"),
    "issued in the future": (without(iat=NOW + 3600), "INVALID_TOKEN"),
    "iat as text": (without(iat="now"), "INVALID_TOKEN"),
    "iat true": (without(iat=True), "INVALID_TOKEN"),
    "without a user": (without("sub"), "INVALID_TOKEN"),
    "sub empty": (without(sub=""), "INVALID_TOKEN"),
    "sub null": (without(sub=None), "INVALID_TOKEN"),
    "sub a fraction": (without(sub=1.5), "INVALID_TOKEN"),
    "sub true": (without(sub=True), "INVALID_TOKEN"),
    "sub a list": (without(sub=["a"]), "INVALID_TOKEN"),
    "sub with NUL": (without(sub="a\0b"), "INVALID_TOKEN"),
    **{
        f"sub {blank!a}": (without(sub=blank), "INVALID_TOKEN")
        for blank in ("  ", "\u200b", "\u2800", "a\tb", "a\nb", "a\x7fb", "a\u2028b")
    },
    "sub of 65 characters": (without(sub="x" * 65), "INVALID_TOKEN"),
    "sub of 65 digits": (without(sub=10**64), "INVALID_TOKEN"),
    "user_id unlike sub": (without(user_id="somebody"), "INVALID_TOKEN"),
    "user_id empty": (without(user_id=""), "INVALID_TOKEN"),
    "without a role": (without("role"), "MISSING_ROLE"),
    "role blank": (without(role="  "), "MISSING_ROLE"),
    "roles empty": (without("role", roles=[]), "MISSING_ROLE"),
    "role a list": (without(role=["admin"]), "INVALID_TOKEN"),
    "role a number": (without(role=1), "INVALID_TOKEN"),
    "roles text": (without("role", roles="admin"), "INVALID_TOKEN"),
    "roles of numbers": (without("role", roles=[1]), "INVALID_TOKEN"),
    "tenant empty": (without(tenant_id=""), "INVALID_TOKEN"),
    "tenant null": (without(tenant_id=None), "INVALID_TOKEN"),
    "tenant a number": (without(tenant_id=5), "INVALID_TOKEN"),
    "tenant of 65 characters": (without(tenant_id="x" * 65), "INVALID_TOKEN"),
    "tenant with NUL": (without(tenant_id="a\0"), "INVALID_TOKEN"),
    "tenant_ids text": (without(tenant_ids="acme"), "INVALID_TOKEN"),
    "tenant_ids with a number": (without(tenant_ids=["a", 1]), "INVALID_TOKEN"),
    "tenant_ids with an empty one": (without(tenant_ids=["a", ""]), "INVALID_TOKEN"),
    "tenant_ids empty": (without(tenant_ids=[]), "INVALID_TOKEN"),
    "tenant_ids empty beside a tenant": (without(tenant_ids=[], tenant_id="acme"), "INVALID_TOKEN"),
    "tenant_ids null": (without(tenant_ids=None), "INVALID_TOKEN"),
    "tenant_ids null beside a tenant": (without(tenant_ids=None, tenant_id="acme"), "INVALID_TOKEN"),
    "tenant_ids false": (without(tenant_ids=False), "INVALID_TOKEN"),
    "tenant_ids 0": (without(tenant_ids=0), "INVALID_TOKEN"),
    "tenant_ids empty text": (without(tenant_ids=""), "INVALID_TOKEN"),
    "tenant_ids with a null": (without(tenant_ids=["acme", None]), "INVALID_TOKEN"),
    "tenant_ids with a blank one": (without(tenant_ids=["acme", " "]), "INVALID_TOKEN"),
    "tenant_ids in a list": (without(tenant_ids=[["acme"]]), "INVALID_TOKEN"),
    "a bad tenant beside tenant_ids": (without(tenant_ids=["acme"], tenant_id=5), "INVALID_TOKEN"),
    "an empty tenant beside tenant_ids": (without(tenant_ids=["acme"], tenant_id=""), "INVALID_TOKEN"),
    "tenant false": (without(tenant_id=False), "INVALID_TOKEN"),
    **{
        f"tenant {blank!a}": (without(tenant_id=blank), "INVALID_TOKEN")
        for blank in (
            *(" ", "   ", "\n", "\r\n", "\t", "\x1b", "\x7f", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"),
            *("\u200b", "\u200d", "\u202e", "\u2060", "\ufeff", "\u3164", "\u2800", "\xad"),
            *(" acme", "acme ", "acme\n", "\nacme", "ac\nme", "ac\tme", "ac\u200bme", "\u202eacme", "\ufeffacme"),
        )
    },
    **{
        f"{claim} {blank!a}": (without("sub", **{claim: blank}), "INVALID_TOKEN")
        for claim in ("sub", "user_id")
        for blank in (" ", "\n", "\t ", "\u200b", "\ufeff\u200d", "\u3164")
    },
    "user_id blank beside a sub": (without(user_id=" "), "INVALID_TOKEN"),
    "user_id 0 is not false": (without("sub", user_id=False), "INVALID_TOKEN"),
    "roles with a null": (without("role", roles=["agent", None]), "INVALID_TOKEN"),
    "roles false": (without("role", roles=False), "INVALID_TOKEN"),
    "role false": (without(role=False), "INVALID_TOKEN"),
    "role an object": (without(role={"admin": True}), "INVALID_TOKEN"),
    "permissions text": (without(permissions="all"), "INVALID_TOKEN"),
    "permissions of numbers": (without(permissions=[1]), "INVALID_TOKEN"),
    "name a number": (without(name=1), "INVALID_TOKEN"),
    "email a list": (without(email=["a@example.com"]), "INVALID_TOKEN"),
    "iss a number": (without(iss=1), "INVALID_TOKEN"),
    "aud a number": (without(aud=1), "INVALID_TOKEN"),
    "aud of numbers": (without(aud=[1]), "INVALID_TOKEN"),
    "a lone surrogate": (without(name="\ud800"), "INVALID_TOKEN"),
    "exp not a number": (without(exp=float("nan")), "INVALID_TOKEN"),
    "exp of 400 digits": (without(exp=10**400), "INVALID_TOKEN"),
    "exp negative": (without(exp=-1), "INVALID_TOKEN"),
    "nbf infinite": (without(nbf=float("inf")), "INVALID_TOKEN"),
    "iat of 400 digits": (without(iat=10**400), "INVALID_TOKEN"),
    "sub an object": (without(sub={"id": 1}), "INVALID_TOKEN"),
    "sub a lone surrogate": (without(sub="\udfff"), "INVALID_TOKEN"),
    "user_id null": (without(user_id=None), "INVALID_TOKEN"),
    "user_id 1 and sub 1.0": (without(user_id=1, sub=1.0), "INVALID_TOKEN"),
    "role null": (without(role=None), "MISSING_ROLE"),
    "role with NUL": (without(role="admin\0"), "INVALID_TOKEN"),
    "roles blank": (without("role", roles=[" "]), "MISSING_ROLE"),
    "roles an object": (without("role", roles={"admin": True}), "INVALID_TOKEN"),
    "tenant a lone surrogate": (without(tenant_id="\ud800"), "INVALID_TOKEN"),
    "tenant a list": (without(tenant_id=["acme"]), "INVALID_TOKEN"),
    "tenant_ids an object": (without(tenant_ids={"acme": 1}), "INVALID_TOKEN"),
    "name with NUL": (without(name="a\0"), "INVALID_TOKEN"),
    "jti a number": (without(jti=1), "INVALID_TOKEN"),
    "no claims at all": ({}, "INVALID_TOKEN"),
}


@pytest.mark.parametrize(("claims", "code"), REFUSED.values(), ids=REFUSED)
def test_its_claims_are_refused(claims: dict[str, Any], code: str) -> None:
    assert refusal(signed(claims)) == (401, code)


def encoded(part: object) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


GOOD = signed(CMS)
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
FORGED = {
    "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{PAYLOAD}.",
    "alg None": f"{encoded({'alg': 'None'})}.{PAYLOAD}.",
    "alg none with a signature": f"{encoded({'alg': 'none'})}.{PAYLOAD}.{SIGNATURE}",
    "alg HS512": jwt.encode(CMS, SECRET * 2, algorithm="HS512"),
    "alg HS384": jwt.encode(CMS, SECRET * 2, algorithm="HS384"),
    "alg RS256": f"{encoded({'alg': 'RS256'})}.{PAYLOAD}.{SIGNATURE}",
    "no alg": f"{encoded({'typ': 'JWT'})}.{PAYLOAD}.{SIGNATURE}",
    "alg a list": f"{encoded({'alg': ['HS256']})}.{PAYLOAD}.{SIGNATURE}",
    "unknown crit": signed(CMS, headers={"crit": ["x"], "x": 1}),
    "another secret": signed(CMS, "another secret of more than thirty-two bytes"),
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "two parts": f"{HEADER}.{PAYLOAD}",
    "four parts": f"{GOOD}.x",
    "one part": "x",
    "dots": "..",
    "a changed payload": f"{HEADER}.{encoded(without(role='admin', sub='1'))}.{SIGNATURE}",
    "a cut signature": GOOD[:-4],
    "a signature of another token": f"{HEADER}.{PAYLOAD}.{signed(without(sub='2')).split('.')[2]}",
    "a payload that is a list": f"{HEADER}.{encoded([1])}.{SIGNATURE}",
    "a payload that is no JSON": f"{HEADER}.{encoded(b'{')}.{SIGNATURE}",
    "a payload that is no UTF-8": f"{HEADER}.{encoded(bytes([255]))}.{SIGNATURE}",
    "a header that is no JSON": f"{encoded(b'{')}.{PAYLOAD}.{SIGNATURE}",
    "a header that is a list": f"{encoded([])}.{PAYLOAD}.{SIGNATURE}",
    "not base64": f"{HEADER}.%%%.{SIGNATURE}",
    "a payload that is text": f"{HEADER}.{encoded('admin')}.{SIGNATURE}",
    "alg hs256": f"{encoded({'alg': 'hs256'})}.{PAYLOAD}.{SIGNATURE}",
    "alg null": f"{encoded({'alg': None})}.{PAYLOAD}.{SIGNATURE}",
    "an embedded key": f"{encoded({'alg': 'HS256', 'jwk': {'kty': 'oct', 'k': ''}})}.{PAYLOAD}.{SIGNATURE}",
    "signed with nothing": f"{HEADER}.{PAYLOAD}.{encoded(hmac.digest(b'', f'{HEADER}.{PAYLOAD}'.encode(), 'sha256'))}",
    "signed with a key of its own naming": signed(CMS, "x" * 32, headers={"kid": "../../dev/null"}),
    "signed with a part of the secret": signed(CMS, SECRET[:-1]),
    "an encrypted token's five parts": f"{GOOD}.x.x",
    "a signature in another alphabet": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-2]}+/",
    "a payload of another header": f"{encoded({'alg': 'HS256', 'typ': 'JWE'})}.{PAYLOAD}.{SIGNATURE}",
    "very deep": f"{HEADER}.{encoded(b'[' * 5000)}.{SIGNATURE}",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_a_forged_or_broken_token_is_refused(token: str) -> None:
    assert refusal(token) == (401, "INVALID_TOKEN")


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=255), min_size=1))
def test_no_text_is_a_token(text: str) -> None:
    assert refusal(text) == (401, "INVALID_TOKEN")


# Of the last character of base64 some bits mean nothing.
@given(st.integers(0, len(GOOD) - 2), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_character_gets_in(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    if changed != GOOD:
        assert refusal(changed) == (401, "INVALID_TOKEN")


def test_the_corpus_is_as_large_as_it_was_promised() -> None:
    assert len(REFUSED) + len(FORGED) >= 76


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([], "MISSING_TOKEN"),
        ([""], "INVALID_TOKEN_FORMAT"),
        (["Bearer"], "INVALID_TOKEN_FORMAT"),
        (["Bearer "], "INVALID_TOKEN_FORMAT"),
        ([GOOD], "INVALID_TOKEN_FORMAT"),
        ([f"Basic {GOOD}"], "INVALID_TOKEN_FORMAT"),
        ([f"Bearer  {GOOD}"], "INVALID_TOKEN_FORMAT"),
        ([f"Bearer {GOOD} x"], "INVALID_TOKEN_FORMAT"),
        ([f"Bearer {GOOD}", f"Bearer {GOOD}"], "INVALID_TOKEN_FORMAT"),
    ],
)
def test_the_header_is_one_bearer_token(values: list[str], code: str) -> None:
    headers = Headers([(b"authorization", value.encode()) for value in values])
    with pytest.raises(AppError) as caught:
        TokenVerifier(Settings(jwt_secret=SECRET)).actor(headers)
    assert caught.value.code.name == code
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    headers = Headers([(b"authorization", f"{scheme} {GOOD}".encode())])
    assert TokenVerifier(Settings(jwt_secret=SECRET)).actor(headers).user_id


def test_a_role_that_is_not_ours_is_forbidden() -> None:
    assert refusal(signed(without(role="guest"))) == (403, "INSUFFICIENT_PERMISSIONS")
    assert refusal(signed(without(role="guest", roles=["admin"]))) == (403, "INSUFFICIENT_PERMISSIONS")


def test_aliases_are_a_setting() -> None:
    assert actor(signed(without(role="boss")), role_aliases="boss=manager").role is Role.MANAGER
    assert refusal(signed(without(role="owner")), role_aliases="boss=manager")[0] == 403


def test_a_tenant_can_be_required() -> None:
    assert refusal(signed(CMS), jwt_require_tenant=True) == (401, "MISSING_TENANT")
    assert actor(signed(without(tenant_id="acme")), jwt_require_tenant=True).tenant_id == "acme"


def test_a_token_of_several_organizations_works_in_the_one_that_the_header_names() -> None:
    several = signed(without(tenant_ids=["acme", "globex"]))
    assert actor(several, organization="globex").tenant_id == "globex"
    assert refusal(several) == (400, "ORGANIZATION_REQUIRED")
    assert refusal(several, organization="initech") == (403, "ORGANIZATION_FORBIDDEN")


def test_a_token_of_one_organization_works_in_no_other() -> None:
    one = signed(without(tenant_id="acme"))
    assert actor(one, organization="acme").tenant_id == "acme"
    assert refusal(one, organization="globex") == (403, "ORGANIZATION_FORBIDDEN")
    assert refusal(signed(CMS), organization="acme") == (403, "ORGANIZATION_FORBIDDEN")


def test_the_header_counts_as_it_stands() -> None:
    several = signed(without(tenant_ids=["acme", "Café"], tenant_id="globex"))
    assert actor(several, organization="Café".encode().decode("latin-1")).tenant_id == "Café"
    for other in ("globex", "ACME", "acme,Café", "default", "acme/"):
        assert refusal(several, organization=other) == (403, "ORGANIZATION_FORBIDDEN")
    for values, expected in (
        ([b""], "ORGANIZATION_FORBIDDEN"),
        ([b"acme", b"acme"], None),
        ([b"acme", b"globex"], "ORGANIZATION_FORBIDDEN"),
        ([b"\xff"], "ORGANIZATION_FORBIDDEN"),
    ):
        sent = [(b"authorization", f"Bearer {several}".encode()), *((b"x-organization-id", value) for value in values)]
        try:
            TokenVerifier(Settings(jwt_secret=SECRET)).actor(Headers(sent))
            code = None
        except AppError as error:
            code = error.code.name
        assert code == expected, values


def test_a_token_that_must_name_a_tenant_and_names_none_is_told_so_only_where_it_is_silent() -> None:
    assert refusal(signed(without(tenant_ids=[])), jwt_require_tenant=True) == (401, "INVALID_TOKEN")
    assert actor(signed(without(tenant_ids=["acme"])), jwt_require_tenant=True).tenant_id == "acme"


def test_issuer_and_audience_count_only_where_they_are_set() -> None:
    assert actor(signed(CMS), jwt_issuer="other, cms-service", jwt_audience="platform-console")
    assert refusal(signed(CMS), jwt_issuer="other") == (401, "INVALID_ISSUER")
    assert refusal(signed(without("iss")), jwt_issuer="other") == (401, "INVALID_ISSUER")
    assert refusal(signed(CMS), jwt_audience="other") == (401, "INVALID_TOKEN")
    assert refusal(signed(without("aud")), jwt_audience="other") == (401, "INVALID_TOKEN")


def test_the_previous_secret_is_accepted_while_it_is_set() -> None:
    previous = "the secret that was in use until this morning"
    assert actor(signed(CMS, previous), jwt_secret_previous=previous)
    assert refusal(signed(CMS, previous)) == (401, "INVALID_TOKEN")
