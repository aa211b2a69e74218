"""Files of customers, deals and activities: what goes in comes out again, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from structlog.testing import capture_logs

from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.processes import fetch

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


@pytest.fixture
def customer(admin: Caller) -> str:
    return f"/admin/customers/{admin.customer()['id']}"


@pytest.fixture
def stored(data_dir: Path) -> Callable[[str], list[str]]:
    """The objects of a tenant, as they lie in the store's folder."""
    return lambda tenant: [str(path) for path in (data_dir / "objects/crm" / tenant).glob("*")]


def attached(caller: Caller, path: str, content: bytes = PNG, name: str = "photo.png") -> dict[str, Any]:
    answer = caller.attach(path, content, name)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_what_was_uploaded_is_listed_described_and_downloaded(admin: Caller, customer: str) -> None:
    made = attached(admin, customer)
    assert made["file_name"] == "photo.png"
    assert made["content_type"] == "image/png"
    assert made["size"] == len(PNG)
    assert made["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert made["uploaded_by"] == admin.user_id
    assert f"/admin/customers/{made['customer_id']}" == customer
    assert admin.ok("GET", f"{customer}/attachments")["data"] == [made]
    path = f"/admin/attachments/{made['id']}"
    content = admin.get(f"{path}/content")
    assert (content.status_code, content.content) == (200, PNG)
    assert content.headers["Content-Type"] == "image/png"
    assert content.headers["Content-Disposition"].startswith('attachment; filename="photo.png"')
    assert content.headers["X-Content-Type-Options"] == "nosniff"
    assert content.headers["Content-Length"] == str(len(PNG))
    detail = admin.get(path)
    assert detail.headers["ETag"] == '"1"'
    assert {**made, "download_url": detail.json()["download_url"]} == detail.json()


def test_the_same_goes_for_deals_and_activities_and_their_timelines_tell_it(admin: Caller) -> None:
    customer = admin.customer()["id"]
    deal = admin.ok("POST", "/admin/deals", {"title": "Big", "customer_id": customer})["id"]
    activity = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "deal_id": deal})["id"]
    made = [
        attached(admin, f"/admin/{path}")
        for path in (f"customers/{customer}", f"deals/{deal}", f"activities/{activity}")
    ]
    for path, count in ((f"customers/{customer}", 3), (f"deals/{deal}", 2)):
        events = admin.ok("GET", f"/admin/{path}/timeline")["data"]
        told = [event for event in events if event["type"] == "attachment"]
        assert [(event["data"]["id"], event["data"]["file_name"]) for event in told] == [
            (one["id"], "photo.png") for one in made[::-1][:count]
        ]
        assert {event["user_id"] for event in told} == {admin.user_id}
    assert [entry["id"] for entry in admin.ok("GET", f"/admin/deals/{deal}/attachments")["data"]] == [made[1]["id"]]


def test_an_attachment_is_audited_without_its_place_in_the_store(admin: Caller, customer: str) -> None:
    made = attached(admin, customer)
    (entry,) = admin.audit(resource_type="attachment")
    assert (entry["action"], entry["resource_id"], entry["user_id"]) == ("create", made["id"], admin.user_id)
    assert entry["new_values"]["file_name"] == "photo.png"
    assert "object_key" not in entry["new_values"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, len(PNG) - 1),
        ("bytes=-7", len(PNG) - 7, len(PNG) - 1),
        ("bytes=5-999999", 5, len(PNG) - 1),
        ("bytes=-1000000000", 0, len(PNG) - 1),
    ],
)
def test_a_range_is_that_part_of_the_file(admin: Caller, customer: str, asked: str, first: int, last: int) -> None:
    path = f"/admin/attachments/{attached(admin, customer)['id']}/content"
    part = admin.call("GET", path, headers={"Range": asked})
    assert (part.status_code, part.content) == (206, PNG[first : last + 1])
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(PNG)}"
    assert part.headers["Content-Length"] == str(last - first + 1)


def test_what_is_no_single_range_is_the_whole_and_one_past_the_end_is_refused(admin: Caller, customer: str) -> None:
    path = f"/admin/attachments/{attached(admin, customer)['id']}/content"
    for asked in ("bytes=0-1,5-6", "items=0-1", "bytes=5-2", "bytes=x"):
        assert admin.call("GET", path, headers={"Range": asked}).status_code == 200
    for asked in (f"bytes={len(PNG)}-", "bytes=-0"):
        past = admin.call("GET", path, headers={"Range": asked})
        refused(past, 416, "RANGE_NOT_SATISFIABLE")
        assert past.headers["Content-Range"] == f"bytes */{len(PNG)}"
    tag = admin.get(path).headers["ETag"]
    assert admin.call("GET", path, headers={"Range": "bytes=0-0", "If-Range": tag}).status_code == 206
    assert admin.call("GET", path, headers={"Range": "bytes=0-0", "If-Range": '"other"'}).status_code == 200


def test_head_says_what_get_would_send(admin: Caller, customer: str) -> None:
    path = f"/admin/attachments/{attached(admin, customer)['id']}/content"
    head, get = admin.call("HEAD", path), admin.get(path)
    assert (head.status_code, head.content) == (200, b"")
    own = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd\0.png", "passwd.png"),
        ("C:\\Users\\ada\\offer.png", "offer.png"),
        ("x" * 296 + ".png", "x" * 251 + ".png"),
        ("عرض سعر نهائي.png", "عرض سعر نهائي.png"),
        ('the "final" offer.png', 'the "final" offer.png'),
        ("harmless\u202egnp.exe.png", "harmlessgnp.exe.png"),
        ("e\u0301te\u0301.png", "été.png"),
        ("..", "file"),
        ("50% off; a=b.png", "50% off; a=b.png"),
    ],
    ids=["path and NUL", "windows path", "300 characters", "arabic", "quotes", "bidi", "NFC", "dots", "percent"],
)
def test_a_hostile_file_name_comes_back_safe_and_faithful(admin: Caller, customer: str, sent: str, shown: str) -> None:
    # As a browser sends it: only quotes and line breaks are escaped.
    quoted = sent.replace('"', "%22").encode()
    body = b'--X\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--X--\r\n' % (quoted, PNG)
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    made = admin.call("POST", f"{customer}/attachments", content=body, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json()["file_name"] == shown
    header = admin.get(f"/admin/attachments/{made.json()['id']}/content").headers["Content-Disposition"]
    plain, _, coded = header.partition("; filename*=UTF-8''")
    assert unquote(coded) == shown
    assert plain.isascii()
    assert plain.count('"') == 2
    linked = fetch(admin.ok("GET", f"/admin/attachments/{made.json()['id']}")["download_url"])
    assert (linked.status_code, linked.content) == (200, PNG)
    assert linked.headers["Content-Disposition"] == header
    assert linked.headers["Content-Type"] == "image/png"


def test_an_upload_can_be_sent_again_under_its_key(admin: Caller, customer: str) -> None:
    key = {"Idempotency-Key": "once"}
    first = admin.attach(customer, headers=key)
    again = admin.attach(customer, headers=key)  # with another boundary
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    refused(admin.attach(customer, b"Other", headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(admin.attach(customer, name="other.txt", headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 1


def test_ten_uploads_at_once_under_one_key_leave_one_row_and_one_object(
    admin: Caller, customer: str, stored: Callable[[str], list[str]]
) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: admin.attach(customer, headers={"Idempotency-Key": "race"}), range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 1
    assert len(stored(admin.tenant)) == 1


def test_what_is_refused_after_it_was_stored_leaves_no_object(
    admin: Caller, customer: str, stored: Callable[[str], list[str]], settings: Settings
) -> None:
    attached(admin, customer)
    # The row is refused by the database, as a constraint or an outage would.
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE attachments ADD CONSTRAINT no_more CHECK (file_name <> 'refused.png') NOT VALID")
        try:
            assert admin.attach(customer, PNG, "refused.png").status_code == 500
        finally:
            owner.execute("ALTER TABLE attachments DROP CONSTRAINT no_more")
    assert len(stored(admin.tenant)) == 1
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 1


def test_the_trash_takes_attachments_along_and_gives_them_back(admin: Caller, customer: str) -> None:
    deal = admin.ok("POST", "/admin/deals", {"title": "Big", "customer_id": int(customer.rsplit("/", 1)[1])})["id"]
    path = f"/admin/attachments/{attached(admin, f'/admin/deals/{deal}')['id']}"
    earlier = f"/admin/attachments/{attached(admin, customer)['id']}"
    admin.ok("DELETE", earlier)
    admin.ok("DELETE", customer)
    for method, rest in (("GET", ""), ("GET", "/content"), ("HEAD", "/content"), ("POST", "/complete")):
        refused(admin.call(method, path + rest), 404, "ATTACHMENT_NOT_FOUND")
    refused(admin.post(f"{path}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"{customer}/restore")
    assert admin.get(f"{path}/content").content == PNG
    assert admin.ok("GET", path)["version"] == 3
    refused(admin.get(earlier), 404, "ATTACHMENT_NOT_FOUND")
    assert admin.ok("GET", f"{customer}/attachments", deleted="only")["total"] == 1
    assert admin.ok("POST", f"{earlier}/restore")["deleted_at"] is None
    refused(admin.post(f"{earlier}/restore"), 409, "NOT_DELETED")
    refused(admin.delete(earlier, headers={"If-Match": '"1"'}), 412, "VERSION_CONFLICT")
    assert admin.delete(earlier, headers={"If-Match": '"3"'}).status_code == 200


def test_a_record_in_the_trash_takes_no_file(admin: Caller, customer: str) -> None:
    admin.ok("DELETE", customer)
    refused(admin.attach(customer), 404, "CUSTOMER_NOT_FOUND")


def test_agents_attach_and_read_but_neither_delete_nor_restore(agent: Caller, customer: str) -> None:
    path = f"/admin/attachments/{attached(agent, customer)['id']}"
    assert agent.get(f"{path}/content").content == PNG
    refused(agent.delete(path), 403, "INSUFFICIENT_PERMISSIONS")
    refused(agent.post(f"{path}/restore"), 403, "INSUFFICIENT_PERMISSIONS")
    refused(agent.get(f"{customer}/attachments", deleted="only"), 403, "INSUFFICIENT_PERMISSIONS")


def test_limited_to_its_own_an_agent_reads_what_it_uploaded_or_what_hangs_on_an_own_record(
    own_scope: TestClient[Litestar], callers: Callers, tenant: str, admin: Caller
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    own = f"/admin/customers/{admin.customer(assigned_to=limited.user_id)['id']}"
    other_id = admin.customer()["id"]
    other = f"/admin/customers/{other_id}"
    work = {"title": "Call", "type": "call", "customer_id": other_id, "assigned_to": limited.user_id}
    task = f"/admin/activities/{admin.ok('POST', '/admin/activities', work)['id']}"
    for path in (own, task):
        assert attached(admin, path)["id"] in [e["id"] for e in limited.ok("GET", f"{path}/attachments")["data"]]
    mine, theirs = attached(limited, own), attached(admin, other)
    admin.ok("PATCH", own, {"assigned_to": None})
    assert limited.get(f"/admin/attachments/{mine['id']}/content").content == PNG
    for method, rest in (("GET", ""), ("GET", "/content"), ("HEAD", "/content"), ("POST", "/complete")):
        answer = limited.call(method, f"/admin/attachments/{theirs['id']}{rest}")
        refused(answer, 404, "ATTACHMENT_NOT_FOUND")
    refused(limited.attach(other), 404, "CUSTOMER_NOT_FOUND")
    refused(limited.get(f"{other}/attachments"), 404, "CUSTOMER_NOT_FOUND")


def test_a_tenant_of_any_name_has_a_safe_place_in_the_store(callers: Callers) -> None:
    for name in ("../../etc", "incoming", "Ünïted / Ltd.", "." * 64):
        caller = callers.person("admin", name)
        made = attached(caller, f"/admin/customers/{caller.customer()['id']}")
        assert caller.get(f"/admin/attachments/{made['id']}/content").content == PNG


def test_the_bytes_of_another_type_than_is_accepted_by_now_come_as_octets(
    variant: Any, callers: Callers, tenant: str, admin: Caller, customer: str
) -> None:
    path = f"/admin/attachments/{attached(admin, customer)['id']}"
    strict = callers.person("admin", tenant, client=variant(attachment_types="application/pdf"))
    assert strict.get(f"{path}/content").headers["Content-Type"] == "application/octet-stream"
    assert fetch(strict.ok("GET", path)["download_url"]).headers["Content-Type"] == "application/octet-stream"


def test_with_the_store_away_only_the_bytes_are(
    variant: Any, callers: Callers, tenant: str, admin: Caller, customer: str, stored: Callable[[str], list[str]]
) -> None:
    path = f"/admin/attachments/{attached(admin, customer)['id']}"
    for away in ({"s3_endpoint_url": "http://127.0.0.1:1"}, {"s3_secret_access_key": "wrong"}, {"s3_bucket": ""}):
        client = variant(**away)
        cut_off = callers.person("admin", tenant, client=client)
        with capture_logs() as logged:
            answers = [cut_off.attach(customer), cut_off.get(f"{path}/content")]
        for answer in answers:
            refused(answer, 503, "SERVICE_UNAVAILABLE")
            assert answer.headers["Retry-After"]
        # Nobody knows whether it is there.
        (told,) = [line["event"] for line in logged if "sweep" in line["event"]]
        assert told.startswith("an object could not be deleted: if it is in the store")
        assert cut_off.ok("GET", f"{customer}/attachments")["total"] == 1
        assert cut_off.customer()["id"]
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
    assert len(stored(admin.tenant)) == 1
