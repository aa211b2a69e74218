"""A search for the request that costs most: bodies, headers, queries, paths and files, each the worst of its size."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.processes import Service
from tests.torture.crowds import asking
from tests.torture.place import Finding, Place
from tests.torture.wire import raw, wire

CUSTOMERS = "/admin/customers"
UNIT = 64 * 1024
MOST_SECONDS = 0.05  # of processor time, for each UNIT begun
MOST_GROWTH = 2.5  # of twice the size
NOISE_SECONDS = 0.02
LATEST_LIVE_SECONDS = 0.1
BODY, HEADER, QUERY, FILE = 256 * 1024, 8_000, 30_000, 512 * 1024
JSON = {"Content-Type": "application/json"}

Build = Callable[[int], bytes]


class Case(NamedTuple):
    """How such a request is built, and the size that it is tried with, and with twice of."""

    build: Build
    size: int


def worst_requests(place: Place) -> Finding:
    """Each case at its size and at twice its size: the worker's processor time, and /live meanwhile."""
    token = place.token(place.tenant())
    tries = place.times(3, 1)
    slow: list[str] = []
    uneven: list[str] = []
    late: list[str] = []
    worst, at_worst = 0.0, ""
    service = place.single
    # In a quick run each eighth of them.
    known = dict(itertools.islice(_cases(service, token), 0, None, place.times(1, 8)))
    for name, case in known.items():
        small, twice_as_large = case.build(case.size), case.build(2 * case.size)
        (once, _), (twice, live) = _cost(service, small, tries), _cost(service, twice_as_large, tries)
        if twice > MOST_GROWTH * once + NOISE_SECONDS:  # once more: the machine does other things too
            once = max(once, _cost(service, small, tries)[0])
            twice = min(twice, _cost(service, twice_as_large, tries)[0])
        units = -(-len(twice_as_large) // UNIT)
        if twice > MOST_SECONDS * units:  # likewise: the worker's own work goes on beside the request
            twice = min(twice, _cost(service, twice_as_large, 10)[0])
        if live > place.within(LATEST_LIVE_SECONDS):  # likewise: the machine's other work, too
            live = min(live, _cost(service, twice_as_large, 3)[1])
        each = twice / units
        if each > worst:
            worst, at_worst = each, name
        slow += [f"{name} ({1000 * each:.0f} ms)"] * (each > MOST_SECONDS)
        uneven += [f"{name} ({twice / once:.1f} times)"] * (twice > MOST_GROWTH * once + NOISE_SECONDS)
        late += [f"{name} ({1000 * live:.0f} ms)"] * (live > place.within(LATEST_LIVE_SECONDS))
    return Finding(
        f"{len(known)} kinds of requests at two sizes; the worst, {at_worst}: {1000 * worst:.0f} ms of processor time"
        " each 64 KiB",
        f"{len(slow)} too slow {slow}, {len(uneven)} not linear {uneven}, {len(late)} kept /live waiting {late}",
        not slow and not uneven and not late,
    )


def _cost(service: Service, request: bytes, tries: int) -> tuple[float, float]:
    """The least processor time of a few tries, and the least of how long /live took at most."""
    costs, lives = [], []
    for _ in range(tries):
        live: list[float] = []
        before = _processor_seconds(service)
        began = time.monotonic()
        asyncio.run(_send(service.url, request, live))
        costs.append(_processor_seconds(service) - before)
        lives.append(max(live))
        if time.monotonic() - began > 5:
            break
    return min(costs), min(lives)


async def _send(url: str, request: bytes, live: list[float]) -> None:
    async with asking(url, live, raw("GET", "/live")), wire(url) as line:
        await line.ask(request)


def _processor_seconds(service: Service) -> float:
    threads = [thread for pid in service.workers for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


# ── what is tried ────────────────────────────────────────────────────────────────────────────────────────────────────


def _cases(service: Service, token: str) -> Iterator[tuple[str, Case]]:
    customer = service.call("POST", CUSTOMERS, token, json={"name": "Ada"}).json()["id"]
    files = f"{CUSTOMERS}/{customer}/attachments"
    sent = service.call("POST", files, token, files={"file": ("a.txt", b"Hello")})
    content = f"/admin/attachments/{sent.json()['id']}/content"
    for name, body in _bodies().items():
        yield f"body: {name}", Case(_with_body(token, body), BODY)
    for name, field in _texts().items():
        yield f"a note of {name}", Case(_note(token, customer, field), BODY // 8)
        yield f"a search for {name}", Case(_search(token, field), 500)
    yield "too many tags", Case(_tags(token, customer), BODY)
    for name, (header, value) in _headers(token).items():
        path = {"Range": content, "If-Range": content}.get(header, f"{CUSTOMERS}/{customer}")
        yield f"header: {name}", Case(_with_header(token, path, header, value), HEADER)
    for name, query in _queries().items():
        path = "/admin/deals" if name.startswith("deals") else CUSTOMERS
        yield f"query: {name}", Case(_with_query(token, path, query), QUERY)
    for name, way in {"slashes": "/", "names": "a/", "dots": "../", "escapes": "%2e/", "digits": "7"}.items():
        yield f"path: {name}", Case(_with_path(token, way), QUERY)
    for name, file in _files().items():
        yield f"file: {name}", Case(_with_file(token, files, file), FILE)
    for name, form in _forms().items():
        yield f"form: {name}", Case(_with_form(token, files, form), FILE)


def _filled(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def _numbered(before: str, unit: Callable[[int], str], after: str) -> Callable[[int], str]:
    def build(size: int) -> str:
        width = len(unit(100_000))
        return before + ",".join(unit(100_000 + number) for number in range(size // (width + 1))) + after

    return build


def _bodies() -> dict[str, Callable[[int], str]]:
    inside = '{"name":"A","contact_preferences":{"a":['
    repeated: dict[str, tuple[str, str, str]] = {
        "blanks": ("", " ", ""),
        "brackets": ("", "[", ""),
        "objects in objects": ("", '{"a":', ""),
        "empty objects": (inside, "{},", "{}]}}"),
        "empty lists": (inside, "[],", "[]]}}"),
        "small objects": (inside, '{"a":1},', "1]}}"),
        "numbers": (inside, "1,", "1]}}"),
        "fractions": (inside, "1.5,", "1]}}"),
        "exponents": (inside, "1e9,", "1]}}"),
        "fractions with exponents": (inside, "-1.23456789e-9,", "1]}}"),
        "digits": (inside, "7", "]}}"),
        "digits of a fraction": (f"{inside}1.", "7", "]}}"),
        "escapes": ('{"name":"', "\\u0041", '"}'),
        "pairs of surrogates": ('{"name":"', "\\ud83d\\ude00", '"}'),
        "lone surrogates": (inside, '"\\ud800",', "1]}}"),
        "NULs": ('{"name":"', "\\u0000", '"}'),
        "backslashes": ('{"name":"', "\\\\", '"}'),
        "an address of dots": ('{"name":"A","email":"a@', "a.", '"}'),
        "an address of at signs": ('{"name":"A","email":"', "@", '"}'),
        "a time of digits": ('{"name":"A","next_follow_up_at":"', "1", '"}'),
        "one field for ever": ("{", '"name":"A",', '"name":"A"}'),
        "a long name": ('{"name":"', "a", '"}'),
        "a name of blanks": ('{"name":"', " ", '"}'),
        "a phone of dashes": ('{"name":"A","phone":"', "1-", '"}'),
        "invisible characters": ('{"name":"', "\u200b", '"}'),
        "quoted JSON": ('{"name":"A","contact_preferences":{"a":"', '\\"', '"}}'),
    }
    bodies: dict[str, Callable[[int], str]] = {
        name: (lambda size, parts=parts: parts[0] + _filled(parts[1], size) + parts[2])  # type: ignore[misc]  # bound now
        for name, parts in repeated.items()
    }
    return bodies | {
        "the last of many fields twice": _numbered("{", lambda n: f'"f{n}":1', ',"f100001":1,"f100001":1}'),
        "the first of many fields twice": _numbered('{"a":1,"a":1,', lambda n: f'"f{n}":1', "}"),
        "unknown fields": _numbered("{", lambda n: f'"f{n}":1', "}"),
        "fields deep inside": _numbered('{"name":"A","contact_preferences":{', lambda n: f'"f{n}":1', "}}"),
        "fields with NUL": _numbered("{", lambda n: f'"f{n}\\u0000":1', "}"),
    }


def _texts() -> dict[str, str]:
    return {
        "accents out of order": "\u0315\u0300",
        "accents": "\u0301",
        "Hangul": "\u1100\u1161\u11a8",
        "capitals that grow": "\u0130\u1e9e",
        "words": "a ",
        "quotes": '"a" ',
        "digits": "0049 30/",
        "ligatures": "\ufdfa",
    }


def _headers(token: str) -> dict[str, tuple[str, Callable[[int], str]]]:
    def of(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
        return lambda size: before + _filled(unit, size - len(before) - len(after)) + after

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    return {
        "blanks in Content-Type": ("Content-Type", of(" ", "application/json", "x")),
        "blanks in a charset": ("Content-Type", of(" ", "application/json; charset", "x")),
        "a long boundary": ("Content-Type", of("a", "multipart/form-data; boundary=")),
        "blanks in Range": ("Range", of(" ", "bytes=0-", "x")),
        "ranges": ("Range", of("0-1,", "bytes=")),
        "an If-Range": ("If-Range", of('"a" ')),
        "an origin of dashes": ("Origin", of("a-", "https://a-", "!")),
        "an origin of labels": ("Origin", of("a.", "https://", "!")),
        "tags": ("If-Match", of('"a",')),
        "weak tags": ("If-Match", of('W/"a" , ', "", "x")),
        "commas": ("If-Match", of(" ,", '"1"', "x")),
        "quotes": ("If-Match", of('"', "", "x")),
        "proxies": ("X-Forwarded-For", of("127.0.0.1, ")),
        "one long proxy": ("X-Forwarded-For", of("1")),
        "schemes": ("X-Forwarded-Proto", of("https,")),
        "dots in a token": ("Authorization", of(".", "Bearer ")),
        "a token of brackets": ("Authorization", of("W1tb", "Bearer ", ".e30.AAAA")),
        "a long token": ("Authorization", of("a", f"Bearer {token}")),
        "blanks before a token": ("Authorization", of(" ", "Bearer", token)),
        "blanks in a trace": ("Tracestate", of(" ", "a=1", "x")),
        "a long trace": ("Traceparent", of("-", trace)),
        "cookies": ("Cookie", of("a=b; ")),
        "types": ("Accept", of("a/b;q=0.1,")),
        "a key": ("Idempotency-Key", of("a")),
        "an organization": ("X-Organization-Id", of("\u00ff")),
        "directives": ("Cache-Control", of("no-cache ,")),
        "an id": ("X-Request-ID", of("a")),
        "an agent": ("User-Agent", of("(a;")),
        "encodings": ("Content-Encoding", of("identity,")),
    }


def _queries() -> dict[str, Callable[[int], str]]:
    def of(unit: str, before: str = "") -> Callable[[int], str]:
        return lambda size: before + _filled(unit, size)

    return {
        "unknown parameters": of("a&"),
        "one parameter": of("page=1&"),
        "parameters with escapes": of("%61&"),
        "percent signs": of("%", "search="),
        "escapes": of("%61", "search="),
        "plus signs": of("+", "search="),
        "equal signs": of("=", "search"),
        "statuses": of("lead,", "status="),
        "ids": of("1,", "tags="),
        "one long id": of("7", "tags="),
        "quotes": of("%22", "assigned_to="),
        "people": of("%22a%22,", "assigned_to="),
        "a cursor": of("QUFB", "cursor="),
        "deals: an amount": of("7", "amount_min="),
        "deals: a fraction": of("7", "amount_min=0."),
        "deals: stages": of("a,", "stage="),
        "deals: a time": of("2026-01-01T", "created_from="),
    }


def _files() -> dict[str, bytes]:
    return {
        "text": b"a",
        "blanks": b" ",
        "line breaks": b"\n",
        "NULs": b"\x00",
        "two-byte letters": "\u00e4".encode(),
        "no text": b"\xff\xfe",
        "headers of a mail": b"A: b\r\n",
        "senders": b"From: a\nDate: b\n",
        "zip": b"PK\x03\x04",
        "OLE": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1W\x00o\x00r\x00d\x00",
        "PDF": b"%PDF",
        "markup": b"<a><!--",
        "RTF": b"{\\rtf1 ",
        "colons": b"a:",
    }


def _forms() -> dict[str, bytes]:
    return {
        "nearly boundaries": b"\r\n--boundar",
        "boundaries": b"\r\n--boundary",
        "parts": b'\r\n--boundary\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n',
        "headers": b"\r\n--boundary\r\n" + b"A: b\r\n" * 100,
        "line breaks": b"\r\n",
        "dashes": b"-",
    }


# ── how it is sent ───────────────────────────────────────────────────────────────────────────────────────────────────


def _with_body(token: str, body: Callable[[int], str]) -> Build:
    return lambda size: raw("POST", CUSTOMERS, token, content=body(size).encode(), headers=JSON)


def _note(token: str, customer: int, unit: str) -> Build:
    def build(size: int) -> bytes:
        note: dict[str, Any] = {"content": "a" + _filled(unit, min(size, 19_999)), "customer_id": customer}
        return raw("POST", "/admin/notes", token, content=json.dumps(note).encode(), headers=JSON)

    return build


def _search(token: str, unit: str) -> Build:
    return lambda size: raw("GET", f"{CUSTOMERS}?search={quote(_filled(unit, min(size // 2, 250)))}", token)


def _tags(token: str, customer: int) -> Build:
    return lambda size: raw(
        "POST", f"{CUSTOMERS}/{customer}/tags", token, content=f'{{"tag_ids":[{"1," * (size // 2)}1]}}', headers=JSON
    )


def _with_header(token: str, path: str, header: str, value: Callable[[int], str]) -> Build:
    method = {"Content-Type": "POST", "If-Match": "PATCH", "Idempotency-Key": "POST"}.get(header, "GET")
    where = {"POST": CUSTOMERS}.get(method, path)

    def build(size: int) -> bytes:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if header == "Tracestate":
            headers["Traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers[header] = value(size)
        lines = [f"{method} {where} HTTP/1.1", "Host: torture", "Content-Length: 2"]
        lines += [f"{name}: {sent}" for name, sent in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n{}"

    return build


def _with_query(token: str, path: str, query: Callable[[int], str]) -> Build:
    return lambda size: raw("GET", f"{path}?{query(size)}", token)


def _with_path(token: str, unit: str) -> Build:
    return lambda size: raw("GET", f"/admin/customers/{_filled(unit, size)}", token)


def _with_file(token: str, path: str, unit: bytes) -> Build:
    return lambda size: raw("POST", path, token, files={"file": ("a.txt", unit * (size // len(unit)))})


def _with_form(token: str, path: str, unit: bytes) -> Build:
    form = {"Content-Type": "multipart/form-data; boundary=boundary"}
    head = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    return lambda size: raw("POST", path, token, content=head + unit * (size // len(unit)), headers=form)
