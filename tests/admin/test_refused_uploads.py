"""What is no upload is refused, with its reason, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.callers import Caller, Callers, refused


@pytest.fixture
def customer(admin: Caller) -> str:
    return f"/admin/customers/{admin.customer()['id']}"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + b"--X--\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nHello'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (form(b'Content-Disposition: form-data; name="file"\r\n\r\nHello'), "file"),
        (form(b"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''a.txt\r\n\r\nHello"), "file"),
        (form(FILE, FILE), "file"),
        (form(b'Content-Disposition: form-data; name="note"\r\n\r\nHello', FILE), "note"),
        (form(FILE, b'Content-Disposition: form-data; name="note"\r\n\r\nHello'), "note"),
        (form(), "file"),
        (form(b"X: y\r\n\r\nHello"), "body"),
        (form(b"no header"), "body"),
        (form(FILE.replace(b"a.txt", b"\xff.txt")), "body"),
        (form(FILE)[:-10], "body"),
        (b"", "body"),
        (b"{}", "body"),
        (b"--X\r\n" + b"A" * 100_000, "body"),
    ],
    ids=[
        *("text part", "filename*", "two files", "text part first", "text part last", "no part", "no disposition"),
        *("no header", "not UTF-8", "cut off", "empty", "JSON", "endless header"),
    ],
)
def test_a_bad_form_is_explained(admin: Caller, customer: str, body: bytes, field: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    answer = admin.call("POST", f"{customer}/attachments", content=body, headers=headers)
    data = refused(answer, 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == [field]
    # What a library says is for programmers.
    assert not re.search(r"codec|0x|segment|Error|parser", answer.text)
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "multipart/mixed; boundary=X"},
        {"Content-Type": "multipart/form-data; boundary=X", "Content-Encoding": "gzip"},
        {},
    ],
)
def test_a_body_of_another_kind_is_415(admin: Caller, customer: str, headers: dict[str, str]) -> None:
    answer = admin.call("POST", f"{customer}/attachments", content=form(FILE), headers=headers)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_file_that_is_empty_or_of_no_accepted_type_is_refused(admin: Caller, customer: str) -> None:
    refused(admin.attach(customer, b""), 400, "EMPTY_FILE")
    for content in (b"MZ\x90\0\3\0\0\0" * 9, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!DOCTYPE html><p>"):
        refused(admin.attach(customer, content, "photo.png"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 0


def test_a_file_that_is_too_large_is_refused_as_soon_as_that_is_known(
    variant: Any, callers: Callers, tenant: str, customer: str
) -> None:
    small = callers.person("admin", tenant, client=variant(attachment_max_bytes=1000))
    assert small.attach(customer, b"x" * 1000).status_code == 201
    assert refused(small.attach(customer, b"x" * 1001), 413, "PAYLOAD_TOO_LARGE") == {"max": 1000}

    def unannounced() -> Iterator[bytes]:
        yield b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(1000):
            yield b"x" * 1000

    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    refused(
        small.call("POST", f"{customer}/attachments", content=unannounced(), headers=headers), 413, "PAYLOAD_TOO_LARGE"
    )
    announced = {**headers, "Content-Length": str(10**9)}
    refused(small.call("POST", f"{customer}/attachments", content=b"", headers=announced), 413, "PAYLOAD_TOO_LARGE")
    begun = {"file_name": "a", "content_type": "text/plain", "size": 1001}
    refused(small.post(f"{customer}/attachments/uploads", begun), 413, "PAYLOAD_TOO_LARGE")
