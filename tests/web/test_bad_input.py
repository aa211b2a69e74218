"""The corpus of bad input: what is sent, and the status and code that answer it.

Most of it goes to one or two routes: every route reads its input in one place, `app/web/input.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.callers import Caller, refused

JSON = {"Content-Type": "application/json"}
CUSTOMERS = "/admin/customers"
GZIP = JSON | {"Content-Encoding": "gzip"}
NO_JSON = (415, "UNSUPPORTED_MEDIA_TYPE")
DEEP = b'{"name":"A","contact_preferences":' + b'{"a":' * 80 + b"1" + b"}" * 81

# Bodies of POST /admin/customers.
BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "INVALID_REQUEST", "body"),
    "blanks": (b"  ", "INVALID_REQUEST", "body"),
    "no JSON": (b"name=Ada", "INVALID_REQUEST", "body"),
    "cut off": (b'{"name":"Ada"', "INVALID_REQUEST", "body"),
    "a comma too many": (b'{"name":"Ada",}', "INVALID_REQUEST", "body"),
    "two documents": (b'{"name":"Ada"}{"name":"Bob"}', "INVALID_REQUEST", "body"),
    "a comment": (b'{"name":"Ada"} // Ada', "INVALID_REQUEST", "body"),
    "single quotes": (b"{'name':'Ada'}", "INVALID_REQUEST", "body"),
    "a byte order mark": (b'\xef\xbb\xbf{"name":"Ada"}', "INVALID_REQUEST", "body"),
    "UTF-16": ('{"name":"Ada"}'.encode("utf-16"), "INVALID_REQUEST", "body"),
    "no UTF-8": (b'{"name":"\xff"}', "INVALID_REQUEST", "body"),
    "an overlong NUL": (b'{"name":"\xc0\x80"}', "INVALID_REQUEST", "body"),
    "a raw control character": (b'{"name":"a\x01"}', "INVALID_REQUEST", "body"),
    "an array": (b'[{"name":"Ada"}]', "INVALID_REQUEST", "body"),
    "text": (b'"Ada"', "INVALID_REQUEST", "body"),
    "null": (b"null", "INVALID_REQUEST", "body"),
    "a number": (b"1", "INVALID_REQUEST", "body"),
    "a field twice": (b'{"name":"Ada","name":"Bob"}', "INVALID_REQUEST", "body"),
    "a field twice, deep inside": (
        b'{"name":"A","contact_preferences":{"a":{"b":1,"b":1}}}',
        "INVALID_REQUEST",
        "body",
    ),
    "NUL": (b'{"name":"a\\u0000b"}', "INVALID_REQUEST", "name"),
    "NUL in a name": (
        b'{"name":"A","contact_preferences":{"\\u0000":1}}',
        "INVALID_REQUEST",
        "contact_preferences.\\x00",
    ),
    "NUL in a field's name": (b'{"name":"A","\\u0000":1}', "INVALID_REQUEST", "\\x00"),
    "NUL in a list": (b'["\\u0000"]', "INVALID_REQUEST", "[0]"),
    "a lone surrogate": (b'{"name":"\\ud800"}', "INVALID_REQUEST", "name"),
    "a lone surrogate deep inside": (
        b'{"name":"A","contact_preferences":{"a":[1,{"b":"\\udfff"}]}}',
        "INVALID_REQUEST",
        "contact_preferences.a[1].b",
    ),
    "the wrong half of a pair": (b'{"name":"\\udc00\\ud800"}', "INVALID_REQUEST", "name"),
    "an exponent that no decimal has": (
        b'{"name":"A","contact_preferences":{"a":1e99999999999999999999}}',
        "INVALID_REQUEST",
        "body",
    ),
    "NaN": (b'{"name":"A","contact_preferences":{"a":NaN}}', "INVALID_REQUEST", "body"),
    "Infinity": (b'{"name":"A","contact_preferences":{"a":-Infinity}}', "INVALID_REQUEST", "body"),
    "an endless number": (b'{"name":"A","contact_preferences":{"a":' + b"1" * 5000 + b"}}", "INVALID_REQUEST", "body"),
    "a huge exponent": (b'{"name":"A","contact_preferences":{"a":1e400}}', "INVALID_REQUEST", "body"),
    "80 levels": (DEEP, "INVALID_REQUEST", "body"),
    "100,000 brackets": (b"[" * 100_000, "INVALID_REQUEST", "body"),
    "no required field": (b"{}", "INVALID_REQUEST", "name"),
    "an unknown field": (b'{"name":"Ada","nmae":"Ada"}', "INVALID_REQUEST", "nmae"),
    "another case": (b'{"name":"Ada","Phone":"1"}', "INVALID_REQUEST", "Phone"),
    "__proto__": (b'{"name":"Ada","__proto__":{}}', "INVALID_REQUEST", "__proto__"),
    "another tenant": (b'{"name":"Ada","tenant_id":"globex"}', "INVALID_REQUEST", "tenant_id"),
    "null for a required field": (b'{"name":null}', "INVALID_REQUEST", "name"),
    "an empty name": (b'{"name":""}', "INVALID_REQUEST", "name"),
    "a blank name": (b'{"name":"  "}', "INVALID_REQUEST", "name"),
    "a name of 256": (json.dumps({"name": "x" * 256}).encode(), "INVALID_REQUEST", "name"),
    "a number for text": (b'{"name":1}', "INVALID_REQUEST", "name"),
    "an array for text": (b'{"name":["Ada"]}', "INVALID_REQUEST", "name"),
    "an object for text": (b'{"name":{"$ne":null}}', "INVALID_REQUEST", "name"),
    "text for true": (b'{"name":"Ada","contacted":"true"}', "INVALID_REQUEST", "contacted"),
    "1 for true": (b'{"name":"Ada","contacted":1}', "INVALID_REQUEST", "contacted"),
    "null for true": (b'{"name":"Ada","contacted":null}', "INVALID_REQUEST", "contacted"),
    "an unknown status": (b'{"name":"Ada","status":"king"}', "INVALID_REQUEST", "status"),
    "another case of a status": (b'{"name":"Ada","status":"Lead"}', "INVALID_REQUEST", "status"),
    "no email": (b'{"name":"Ada","email":"ada"}', "INVALID_EMAIL", "email"),
    "an email with a line break": (b'{"name":"Ada","email":"a@b.co\\nBcc: c@d.co"}', "INVALID_EMAIL", "email"),
    "no time": (b'{"name":"Ada","next_follow_up_at":"soon"}', "INVALID_REQUEST", "next_follow_up_at"),
    "a time without an offset": (
        b'{"name":"Ada","next_follow_up_at":"2027-01-01T00:00:00"}',
        "INVALID_REQUEST",
        "next_follow_up_at",
    ),
    "a number for a time": (b'{"name":"Ada","next_follow_up_at":1700000000}', "INVALID_REQUEST", "next_follow_up_at"),
    "30 February": (b'{"name":"Ada","next_follow_up_at":"2027-02-30"}', "INVALID_REQUEST", "next_follow_up_at"),
    "the year 10000": (
        b'{"name":"Ada","next_follow_up_at":"10000-01-01T00:00:00Z"}',
        "INVALID_REQUEST",
        "next_follow_up_at",
    ),
    "an empty user": (b'{"name":"Ada","assigned_to":""}', "INVALID_REQUEST", "assigned_to"),
    **{
        f"the user {user!a}": (
            json.dumps({"name": "Ada", "assigned_to": user}).encode(),
            "INVALID_REQUEST",
            "assigned_to",
        )
        for user in ("  ", "\u200b", "\u2800", "a\nb", "a\tb", "a\x7fb")
    },
    "a fraction for a user": (b'{"name":"Ada","assigned_to":1.5}', "INVALID_REQUEST", "assigned_to"),
    "true for a user": (b'{"name":"Ada","assigned_to":true}', "INVALID_REQUEST", "assigned_to"),
    "an array for an object": (b'{"name":"Ada","contact_preferences":[]}', "INVALID_REQUEST", "contact_preferences"),
    "notes of 10,001": (json.dumps({"name": "A", "notes": "x" * 10_001}).encode(), "INVALID_REQUEST", "notes"),
}


@pytest.mark.parametrize(("body", "code", "field"), BODIES.values(), ids=BODIES)
def test_a_bad_body_is_refused_by_name(body: bytes, code: str, field: str, admin: Caller) -> None:
    data = refused(admin.call("POST", CUSTOMERS, content=body, headers=JSON), 400, code)
    assert [fault["field"] for fault in data["fields"]] == [field]
    assert admin.audit() == []


# Bodies of POST /admin/deals, beside a title and a customer.
DEALS: dict[str, tuple[str, str]] = {
    "a reference of 2^63": ('"customer_id":9223372036854775808', "customer_id"),
    "a reference of 0": ('"customer_id":0', "customer_id"),
    "text for a reference": ('"customer_id":"1"', "customer_id"),
    "a fraction for a reference": ('"customer_id":1.0', "customer_id"),
    "a negative amount": ('"amount":-1', "amount"),
    "text for an amount": ('"amount":"1"', "amount"),
    "a tenth of a cent": ('"amount":0.001', "amount"),
    "an amount of 20 digits": ('"amount":12345678901234567890', "amount"),
    "a probability of 101": ('"probability":101', "probability"),
    "half a probability": ('"probability":0.5', "probability"),
}


@pytest.mark.parametrize(("member", "field"), DEALS.values(), ids=DEALS)
def test_a_bad_number_is_refused_by_name(member: str, field: str, admin: Caller) -> None:
    customer = "" if field == "customer_id" else f',"customer_id":{admin.customer()["id"]}'
    answer = admin.call("POST", "/admin/deals", content=f'{{"title":"A"{customer},{member}}}', headers=JSON)
    assert [fault["field"] for fault in refused(answer, 400, "INVALID_REQUEST")["fields"]] == [field]


QUERIES: dict[str, tuple[str, str, str]] = {
    "an unknown parameter": ("nothing=1", "INVALID_REQUEST", "nothing"),
    "a parameter twice": ("page=1&page=1", "INVALID_REQUEST", "page"),
    "a parameter twice, once in disguise": ("page=1&%70age=2", "INVALID_REQUEST", "page"),
    "no UTF-8": ("search=%ff", "INVALID_REQUEST", "search"),
    "NUL": ("search=%00", "INVALID_REQUEST", "search"),
    "page 0": ("page=0", "INVALID_REQUEST", "page"),
    "page -1": ("page=-1", "INVALID_REQUEST", "page"),
    "page 1.5": ("page=1.5", "INVALID_REQUEST", "page"),
    "page 2^63": ("page=9223372036854775808", "INVALID_REQUEST", "page"),
    "Arabic digits": ("page=%D9%A1", "INVALID_REQUEST", "page"),
    "a page size of 0": ("page_size=0", "INVALID_REQUEST", "page_size"),
    "an unknown sort": ("sort_by=id;DROP TABLE customers", "INVALID_REQUEST", "sort_by"),
    "an unknown order": ("sort_order=up", "INVALID_REQUEST", "sort_order"),
    "an unknown status": ("status=lead,king", "INVALID_REQUEST", "status"),
    "no id": ("tags=1,x", "INVALID_REQUEST", "tags"),
    "no time": ("created_from=yesterday", "INVALID_REQUEST", "created_from"),
    "no truth": ("contacted=maybe", "INVALID_REQUEST", "contacted"),
}


@pytest.mark.parametrize(("query", "code", "field"), QUERIES.values(), ids=QUERIES)
def test_a_bad_query_is_refused_by_name(query: str, code: str, field: str, admin: Caller) -> None:
    data = refused(admin.call("GET", f"{CUSTOMERS}?{query}"), 400, code)
    assert [fault["field"] for fault in data["fields"]] == [field]


@pytest.mark.parametrize("value", ['""', '"",""', '" "'])
def test_an_empty_value_in_quotes_is_one_that_nothing_has(value: str, admin: Caller) -> None:
    admin.customer()
    assert admin.ok("GET", CUSTOMERS, external_id=value)["total"] == 0


@pytest.mark.parametrize("path", ["/admin/notes", CUSTOMERS])
def test_options_looks_at_no_query(path: str, admin: Caller) -> None:
    answer = admin.call("OPTIONS", f"{path}?page_size=5&nothing=1&page=x")
    assert answer.status_code == 204
    assert "GET" in answer.headers["Allow"]


A_TAG = {"json": {"name": "A"}}
REQUESTS: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "an id of 0": ("GET", f"{CUSTOMERS}/0", {}, 400, "INVALID_ID"),
    "a negative id": ("GET", f"{CUSTOMERS}/-1", {}, 400, "INVALID_ID"),
    "an id of 2^63": ("GET", f"{CUSTOMERS}/9223372036854775808", {}, 400, "INVALID_ID"),
    "an id with a sign": ("GET", f"{CUSTOMERS}/+1", {}, 400, "INVALID_ID"),
    "a fraction": ("GET", f"{CUSTOMERS}/1.0", {}, 400, "INVALID_ID"),
    "an id with NUL": ("GET", f"{CUSTOMERS}/1%00", {}, 400, "INVALID_ID"),
    "a superscript": ("GET", f"{CUSTOMERS}/%C2%B2", {}, 400, "INVALID_ID"),
    "SQL": ("GET", f"{CUSTOMERS}/1%20OR%201=1", {}, 400, "INVALID_ID"),
    "a cursor and a page": ("GET", f"{CUSTOMERS}?cursor=x&page=1", {}, 400, "INVALID_REQUEST"),
    "a made-up cursor": ("GET", f"{CUSTOMERS}?cursor=x", {}, 400, "INVALID_CURSOR"),
    "an empty PATCH": ("PATCH", f"{CUSTOMERS}/1", {"json": {}}, 400, "NO_UPDATES"),
    "a PATCH of what is read-only": ("PATCH", f"{CUSTOMERS}/1", {"json": {"id": 2, "version": 9}}, 400, "NO_UPDATES"),
    "a key with a blank": (
        "POST",
        CUSTOMERS,
        {"json": {"name": "A"}, "headers": {"Idempotency-Key": "a b"}},
        400,
        "INVALID_REQUEST",
    ),
    "a version unquoted": ("DELETE", f"{CUSTOMERS}/1", {"headers": {"If-Match": "1"}}, 404, "CUSTOMER_NOT_FOUND"),
    "no type": ("POST", CUSTOMERS, {"content": b'{"name":"A"}'}, *NO_JSON),
    "a form": ("POST", CUSTOMERS, {"data": {"name": "A"}}, *NO_JSON),
    "text": (
        "POST",
        CUSTOMERS,
        {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
        *NO_JSON,
    ),
    "Latin-1": (
        "POST",
        CUSTOMERS,
        {"content": b"{}", "headers": {"Content-Type": "application/json; charset=latin-1"}},
        *NO_JSON,
    ),
    "gzip": (
        "POST",
        CUSTOMERS,
        {"content": b"{}", "headers": GZIP},
        *NO_JSON,
    ),
    "two mebibytes": ("POST", CUSTOMERS, {"content": b" " * 2**21, "headers": JSON}, 413, "PAYLOAD_TOO_LARGE"),
    "an unknown path": ("GET", "/admin/customers/1/nothing", {}, 404, "NOT_FOUND"),
    "a path above": ("GET", "/admin/%2e%2e/etc/passwd", {}, 404, "NOT_FOUND"),
    "a wrong method": ("DELETE", CUSTOMERS, {}, 405, "METHOD_NOT_ALLOWED"),
    "a made-up method": ("BREW", CUSTOMERS, {}, 405, "METHOD_NOT_ALLOWED"),
}


@pytest.mark.parametrize(("method", "path", "more", "status", "code"), REQUESTS.values(), ids=REQUESTS)
def test_a_bad_request_is_refused(
    method: str, path: str, more: dict[str, Any], status: int, code: str, admin: Caller
) -> None:
    refused(admin.call(method, path, **more), status, code)


def test_the_corpus_is_as_large_as_it_was_promised() -> None:
    assert len(BODIES) + len(DEALS) + len(QUERIES) + len(REQUESTS) >= 57


def test_every_bad_field_is_named_at_once(admin: Caller) -> None:
    answer = admin.post(f"{CUSTOMERS}?x=1", {"name": "", "email": "ada", "contacted": 1, "nmae": 1})
    fields = {fault["field"] for fault in refused(answer, 400, "INVALID_REQUEST")["fields"]}
    assert fields == {"x", "name", "email", "contacted", "nmae"}


def test_a_character_that_cannot_be_stored_hides_no_other_fault(admin: Caller) -> None:
    body = rb'{"name":"\u0000","email":"ada","phone":"\ud800","nmae":1}'
    answer = admin.call("POST", CUSTOMERS, content=body, headers=JSON)
    fields = [fault["field"] for fault in refused(answer, 400, "INVALID_REQUEST")["fields"]]
    assert sorted(fields) == ["email", "name", "nmae", "phone"]


LARGE: dict[str, tuple[str, bytes]] = {
    "10,000 unknown parameters": ("&".join(f"p{n}" for n in range(10_000)), b'{"name":"A"}'),
    "one parameter 8,000 times": ("&".join(["page=1"] * 8_000), b'{"name":"A"}'),
    "50,000 unknown fields": ("", json.dumps({f"f{n}": n for n in range(50_000)}).encode()),
    "long names": ("", json.dumps({f"{n}" + "\x01" * 900: n for n in range(150)}).encode()),
    "a long name": ("", json.dumps({"\U0001f600" * 80_000: 1}).encode()),
    "surrogates in every field": ("", b"{" + b",".join(b'"f%d":"\\ud800"' % n for n in range(40_000)) + b"}"),
    "a deep place": ("", b'{"name":' + b'{"\\u0001\\u0001\\u0001\\u0001":' * 60 + b'"\\u0000"' + b"}" * 61),
}


@pytest.mark.parametrize(("query", "body"), LARGE.values(), ids=LARGE)
def test_an_error_is_not_larger_than_what_it_refuses(query: str, body: bytes, admin: Caller) -> None:
    answer = admin.call("POST", f"{CUSTOMERS}?{query}", content=body, headers=JSON)
    data = refused(answer, 400, "INVALID_REQUEST")
    assert len(answer.content) <= 64 * 1024
    assert 1 <= len(data["fields"]) <= 100


def test_the_first_hundred_faults_are_named_and_the_others_counted(admin: Caller) -> None:
    data = refused(admin.post(CUSTOMERS, {f"f{n}": 1 for n in range(250)}), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == [f"f{n}" for n in range(100)]
    assert data["more"] == 151  # the name is missing too


HEADERS = {
    "one of 16 KiB": [("X-Long", "x" * 16_384)],
    "64 KiB together": [(f"X-{n}", "x" * 8_000) for n in range(9)],
    "a long token": [("Authorization", "Bearer " + "x" * 17_000)],
    "a long name": [("X" * 17_000, "1")],
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("path", ["/admin/me", "/live", "/nowhere"])
def test_headers_that_are_too_large_are_refused_before_all_else(
    path: str, headers: list[tuple[str, str]], admin: Caller
) -> None:
    data = refused(admin.client.get(path, headers=headers), 431, "REQUEST_HEADER_FIELDS_TOO_LARGE")
    assert data == {"max": 65_536, "max_each": 16_384}


def test_a_cursor_that_was_given_out_is_taken_back(admin: Caller) -> None:
    for _ in range(2):
        admin.customer('"' * 255)
    ids = "9" * 18
    people = ",".join([f"{admin.user_id}", *[f"{ids}{n:03}" for n in range(300)]])
    page = admin.ok("GET", CUSTOMERS, assigned_to=people, page_size=1, sort_by="name")
    again = admin.ok("GET", CUSTOMERS, cursor=page["next_cursor"], page_size=1)
    assert len(again["data"]) == 1
    longer = admin.get(CUSTOMERS, assigned_to=",".join(f"{ids}{n:03}" for n in range(400)))
    assert [fault["field"] for fault in refused(longer, 400, "INVALID_REQUEST")["fields"]] == ["query"]
    many = admin.get(CUSTOMERS, tags=",".join(["1"] * 1001))
    assert [fault["field"] for fault in refused(many, 400, "INVALID_REQUEST")["fields"]] == ["tags"]


def test_no_letter_has_so_many_accents(admin: Caller) -> None:
    vietnamese = "Nguye\u0302\u0303n"
    assert admin.customer(vietnamese)["name"] == "Nguy\u1ec5n"
    assert admin.customer("Z" + "\u0301" * 30)["name"]
    stacked = "Z" + "\u0315\u0300" * 150_000
    for answer in (
        admin.post(CUSTOMERS, {"name": stacked}),
        admin.post(CUSTOMERS, {"name": "Ada", "notes": stacked[:10_000]}),
        admin.post("/admin/notes", {"content": stacked[:20_000]}),
        admin.get(CUSTOMERS, search=stacked[:200]),
    ):
        message = refused(answer, 400, "INVALID_REQUEST")["fields"][0]["message"]
        assert message == "must have at most 30 accents on one letter"
