"""Answers in pieces."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from litestar import Response
from litestar.response import Stream

from app.web import large_responses
from app.web.large_responses import EncodedRows, encoded_response
from tests.callers import Caller


def content(response: Response[Any]) -> bytes:
    if not isinstance(response, Stream):
        return bytes(response.content)

    async def gathered() -> bytes:
        pieces: Any = response.iterator
        return b"".join([piece async for piece in pieces])

    body = asyncio.run(gathered())
    assert response.headers["Content-Length"] == str(len(body))
    return body


@pytest.mark.parametrize("size", [0, 1, 1_000, 50_000, 200_000])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_rows_are_told_in_the_order_that_is_asked_for(count: int, size: int) -> None:
    with EncodedRows() as rows:
        kept = [rows.add(json.dumps(f"{number}" * size).encode()) for number in range(count)]
        response = rows.response(b'{"data":[', kept[::-1], b"]}")
    assert json.loads(content(response)) == {"data": [f"{number}" * size for number in range(count)][::-1]}
    assert isinstance(response, Stream) == (count * (size + 2) > large_responses.MAX_BYTES_IN_MEMORY)


def test_a_long_answer_keeps_its_status_and_headers() -> None:
    response = encoded_response(b"1" * 1_000_000, 201, {"ETag": '"1"'})
    assert (response.status_code, response.headers["ETag"]) == (201, '"1"')
    assert content(response) == b"1" * 1_000_000


def test_a_page_of_long_records_is_whole_and_in_order(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    deal = admin.ok("POST", "/admin/deals", {"title": "A", "customer_id": admin.customer()["id"]})["id"]
    for number in range(25):
        admin.ok("POST", "/admin/notes", {"content": f"{number}" + "\U0001f600" * 5_000, "deal_id": deal})
    whole = [admin.ok("GET", "/admin/notes", page_size=size, page=page) for size, page in ((100, 1), (12, 2))]
    monkeypatch.setattr(large_responses, "MAX_BYTES_IN_MEMORY", 10**9)
    assert whole == [admin.ok("GET", "/admin/notes", page_size=size, page=page) for size, page in ((100, 1), (12, 2))]
    assert [len(note["content"]) for note in whole[0]["data"]] == [5002] * 15 + [5001] * 10


def test_a_deal_shows_its_newest_notes_and_activities_up_to_a_bound(admin: Caller) -> None:
    customer = admin.customer()["id"]
    deal = admin.ok("POST", "/admin/deals", {"title": "A", "customer_id": customer})["id"]
    notes = [admin.ok("POST", "/admin/notes", {"content": f"{n}", "deal_id": deal})["id"] for n in range(60)]
    call = {"type": "call", "title": "A", "deal_id": deal}
    calls = [admin.ok("POST", "/admin/activities", call)["id"] for _ in range(60)]
    shown = admin.ok("GET", f"/admin/deals/{deal}")
    assert [note["id"] for note in shown["notes"]] == notes[:-51:-1]
    assert [activity["id"] for activity in shown["activities"]] == calls[:-51:-1]
    long = [
        admin.ok("POST", "/admin/notes", {"content": "x" + "\x01" * 19_999, "deal_id": deal})["id"] for n in range(12)
    ]
    shown = admin.ok("GET", f"/admin/deals/{deal}")
    assert [note["id"] for note in shown["notes"]] == long[:-9:-1]  # 120,000 bytes each
