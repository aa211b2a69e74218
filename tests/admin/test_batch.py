"""Several requests in one transaction."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from app.db.roles import enter_tenant
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.laws.routes import UNKNOWN_ID

BATCH = "/admin/batch"


def ask(method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
    return {"method": method, "path": path, "body": body, **more}


def send(caller: Caller, *requests: dict[str, Any], **headers: str) -> Any:
    return caller.post(BATCH, {"requests": requests}, headers={n.replace("_", "-"): v for n, v in headers.items()})


def done(caller: Caller, *requests: dict[str, Any]) -> list[Any]:
    answers: list[Any] = caller.ok("POST", BATCH, {"requests": requests})["data"]
    return answers


def test_a_form_that_makes_everything_about_a_new_customer_is_saved_at_once(admin: Caller) -> None:
    tag = admin.tag()["id"]
    requests = (
        ask("POST", "/admin/customers", {"name": "Ada Lovelace", "email": "ada@example.com"}),
        ask("POST", "/admin/customers/{{0.id}}/contacts", {"first_name": "Grace", "is_primary": True}),
        ask("POST", "/admin/deals", {"title": "Engine", "customer_id": "{{0.id}}", "contact_id": "{{1.id}}"}),
        ask("POST", "/admin/customers/{{0.id}}/tags", {"tag_ids": [tag]}),
        ask("PATCH", "/admin/deals/{{2.id}}", {"stage": "proposal", "amount": 1500.5}, if_match='"1"'),
        ask("POST", "/admin/notes", {"content": "{{0.id}} is not a whole value", "deal_id": "{{2.id}}"}),
        ask("POST", "/admin/activities", {"title": "Call", "type": "call", "deal_id": "{{2.id}}"}),
        ask("DELETE", "/admin/activities/{{6.id}}"),
        ask("POST", "/admin/activities/{{6.id}}/restore"),
    )
    answer = send(admin, *requests)
    assert answer.status_code == 200, answer.text
    customer, contact, deal, tags, moved, note, activity, deleted, restored = answer.json()["data"]
    assert contact["customer_id"] == deal["customer_id"] == customer["id"]
    assert deal["contact_id"] == contact["id"]
    assert [each["id"] for each in tags["data"]] == [tag]
    assert (moved["stage"], moved["amount"], moved["version"]) == ("proposal", 1500.5, 2)
    assert (note["content"], note["deal_id"]) == ("{{0.id}} is not a whole value", deal["id"])
    assert deleted == {"message": "Activity deleted successfully"}
    assert (restored["id"], restored["version"]) == (activity["id"], 3)
    assert admin.ok("GET", f"/admin/deals/{deal['id']}") | moved == admin.ok("GET", f"/admin/deals/{deal['id']}")
    of_batch = admin.audit(operation_id=answer.headers["X-Operation-Id"])
    assert len(of_batch) == len(requests)
    assert {entry["request_id"] for entry in of_batch} == {answer.headers["X-Request-ID"]}


def test_references_work_in_lists_and_objects(admin: Caller) -> None:
    made = done(
        admin,
        ask("POST", "/admin/tags", {"name": "One"}),
        ask("POST", "/admin/customers", {"name": "Ada", "contact_preferences": {"of": [{"tag": "{{0.id}}"}]}}),
        ask("PUT", "/admin/customers/{{1.id}}/tags", {"tag_ids": ["{{0.id}}"]}),
    )
    assert made[1]["contact_preferences"] == {"of": [{"tag": made[0]["id"]}]}
    assert made[2]["data"][0]["id"] == made[0]["id"]


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [
        (ask("POST", "/admin/customers", {"name": " "}), 400, "INVALID_REQUEST"),
        (ask("POST", "/admin/customers", {"name": "Ada", "email": "nobody"}), 400, "INVALID_EMAIL"),
        (ask("POST", "/admin/customers", {"name": "Ada", "email": "taken@example.com"}), 409, "EMAIL_EXISTS"),
        (ask("POST", "/admin/customers"), 400, "INVALID_REQUEST"),
        (ask("PATCH", "/admin/customers/{known}", {}), 400, "NO_UPDATES"),
        (ask("PATCH", "/admin/customers/{known}", {"name": "x"}, if_match='"7"'), 412, "VERSION_CONFLICT"),
        (ask("PATCH", "/admin/customers/{known}", {"name": "x"}, if_match="1"), 412, "VERSION_CONFLICT"),
        (ask("PATCH", f"/admin/customers/{UNKNOWN_ID}", {"name": "x"}), 404, "CUSTOMER_NOT_FOUND"),
        (ask("DELETE", "/admin/customers/abc"), 400, "INVALID_ID"),
        (ask("POST", "/admin/deals", {"title": "x", "customer_id": UNKNOWN_ID}), 400, "CUSTOMER_NOT_FOUND"),
        (ask("POST", "/admin/customers/{known}/restore"), 409, "NOT_DELETED"),
        (ask("POST", "/admin/customers/{known}/tags", {"tag_ids": [UNKNOWN_ID]}), 400, "TAG_NOT_FOUND"),
        (ask("POST", "/admin/nothing"), 404, "NOT_FOUND"),
        (ask("DELETE", "/admin/customers"), 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_a_failure_answers_as_that_request_would_and_nothing_is_done(
    bad: dict[str, Any], status: int, code: str, admin: Caller
) -> None:
    known = admin.customer("Known", email="taken@example.com")
    bad = bad | {"path": bad["path"].format(known=known["id"])}
    headers = {"If-Match": bad["if_match"]} if "if_match" in bad else {}
    body = {} if bad["body"] is None else {"json": bad["body"]}
    alone = admin.call(bad["method"], bad["path"], headers={"Content-Type": "application/json"} | headers, **body)
    entries = len(admin.audit())
    answer = send(admin, ask("POST", "/admin/customers", {"name": "First"}), bad, ask("POST", "/admin/never"))
    data = refused(answer, status, code)
    assert data.pop("index") == 1
    assert (answer.json()["message"], data) == (alone.json()["message"], alone.json()["data"] or {})
    assert answer.headers.get("Allow") == alone.headers.get("Allow")
    assert admin.ok("GET", "/admin/customers")["total"] == 1
    assert len(admin.audit()) == entries


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        (ask("GET", "/admin/customers"), "method"),
        (ask("get", "/admin/customers"), "method"),
        (ask("POST", "/admin/batch", {"requests": []}), "path"),
        (ask("POST", "/admin/customers/bulk", {"ids": [1], "action": "trash"}), "path"),
        (ask("POST", "/admin/customers/1/attachments"), "path"),
        (ask("POST", "/admin/customers/1/attachments/uploads", {"file_name": "x"}), "path"),
        (ask("POST", "/admin/attachments/1/complete"), "path"),
        (ask("PUT", "/admin/settings", {"timezone": "UTC"}), "path"),
        (ask("POST", "/admin/customers?x=1", {"name": "Ada"}), "path"),
        (ask("POST", "/console/admin/customers", {"name": "Ada"}), "path"),
        (ask("POST", "/admin/../console/admin/customers", {"name": "Ada"}), "path"),
        (ask("POST", "//admin/customers", {"name": "Ada"}), "path"),
        (ask("POST", "/admin/customers%2F1", {"name": "Ada"}), "path"),
        (ask("POST", "http://elsewhere/admin/customers", {"name": "Ada"}), "path"),
        (ask("POST", "/health"), "path"),
        (ask("POST", "/admin/customers/{{1.id}}/contacts", {"first_name": "x"}), "path"),
        (ask("POST", "/admin/customers/{{2.id}}/contacts", {"first_name": "x"}), "path"),
        (ask("POST", "/admin/customers/{{99999.id}}/contacts", {"first_name": "x"}), "path"),
        (ask("POST", "/admin/customers/{{0.version}}/contacts", {"first_name": "x"}), "path"),
        (ask("POST", "/admin/customers/x{{0.id}}/contacts", {"first_name": "x"}), "path"),
        (ask("POST", "/admin/deals", {"title": "x", "customer_id": "{{5.id}}"}), "body.customer_id"),
        (ask("POST", "/admin/deals", {"title": "x", "customer_id": "{{0.name}}"}), "body.customer_id"),
        (ask("PUT", "/admin/customers/1/tags", {"tag_ids": [1, "{{1.id}}"]}), "body.tag_ids[1]"),
        (ask("POST", "/admin/customers", {"name": "x", "contact_preferences": {"a": [{"b": "{{7.id}}"}]}}),
         "body.contact_preferences.a[0].b"),
    ],
)  # fmt: skip
def test_what_is_not_for_batches_is_named_with_its_place(bad: dict[str, Any], place: str, admin: Caller) -> None:
    entries = len(admin.audit())
    data = refused(send(admin, ask("POST", "/admin/customers", {"name": "Ada"}), bad), 400, "INVALID_REQUEST")
    assert ([fault["field"] for fault in data["fields"]], data["index"]) == ([place], 1)
    assert len(admin.audit()) == entries


def test_the_answer_to_a_deletion_has_no_id_to_refer_to(admin: Caller) -> None:
    customer = admin.customer()["id"]
    delete = ask("DELETE", f"/admin/customers/{customer}")
    refer = ask("POST", "/admin/deals", {"title": "x", "customer_id": "{{0.id}}", "owner_id": "{{0.id}}"})
    data = refused(send(admin, delete, refer), 400, "INVALID_REQUEST")
    assert ({fault["field"] for fault in data["fields"]}, data["index"]) == ({"body.customer_id", "body.owner_id"}, 1)
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_a_batch_is_bounded(admin: Caller) -> None:
    tag = ask("POST", "/admin/tags", {"name": "x"})
    refused(send(admin), 400, "INVALID_REQUEST")
    refused(send(admin, *[tag] * 101), 400, "INVALID_REQUEST")
    assert len(done(admin, *[ask("POST", "/admin/customers", {"name": f"{n}"}) for n in range(100)])) == 100
    refused(send(admin, tag | {"headers": {}}), 400, "INVALID_REQUEST")
    refused(send(admin, tag | {"if_match": "\u2028"}), 400, "INVALID_REQUEST")
    refused(send(admin, tag | {"body": [1]}), 400, "INVALID_REQUEST")
    deep: Any = 1
    for _ in range(61):
        deep = [deep]
    refused(send(admin, tag | {"body": {"name": deep}}), 400, "INVALID_REQUEST")
    refused(admin.post(BATCH, {"requests": [tag | {"body": {"name": "x" * 2**20}}]}), 413, "PAYLOAD_TOO_LARGE")


def test_each_request_needs_the_rights_that_it_needs_alone(admin: Caller, agent: Caller) -> None:
    others = admin.customer("Others")["id"]
    mine = ask("POST", "/admin/customers", {"name": "Mine"})
    for forbidden in (
        ask("DELETE", f"/admin/customers/{others}"),
        ask("PATCH", f"/admin/customers/{others}", {"name": "Taken"}),
        ask("POST", "/admin/tags", {"name": "VIP"}),
        ask("POST", f"/admin/customers/{others}/reassign", {"assigned_to": agent.user_id}),
    ):
        data = refused(send(agent, mine, forbidden), 403, "INSUFFICIENT_PERMISSIONS")
        assert data["index"] == 1
    assert agent.ok("GET", "/admin/customers")["total"] == 1
    (made,) = done(agent, mine)
    assert made["assigned_to"] == agent.user_id


def test_an_agent_that_sees_only_its_own_finds_nothing_else_by_a_batch(
    admin: Caller, callers: Callers, tenant: str, own_scope: Any
) -> None:
    agent = callers.person("agent", tenant, client=own_scope)
    hidden = admin.customer("Hidden")["id"]
    answer = send(agent, ask("PATCH", f"/admin/customers/{hidden}", {"name": "x"}))
    assert refused(answer, 404, "CUSTOMER_NOT_FOUND") == {"index": 0}


def test_another_organization_is_unknown(admin: Caller, stranger: Caller) -> None:
    foreign = stranger.customer("Foreign")["id"]
    refused(send(admin, ask("DELETE", f"/admin/customers/{foreign}")), 404, "CUSTOMER_NOT_FOUND")


def test_a_batch_is_repeated_as_a_whole_under_its_key(admin: Caller) -> None:
    requests = [ask("POST", "/admin/customers", {"name": f"Customer {number}"}) for number in range(2)]
    first, again = (send(admin, *requests, Idempotency_Key="once") for _ in range(2))
    assert (first.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert admin.ok("GET", "/admin/customers")["total"] == 2
    refused(send(admin, requests[0], Idempotency_Key="once"), 422, "IDEMPOTENCY_KEY_REUSED")


def test_the_batchs_own_if_match_counts_for_none_of_its_requests(admin: Caller) -> None:
    customer = admin.customer()["id"]
    change = ask("PATCH", f"/admin/customers/{customer}", {"status": "active"})
    assert send(admin, change, If_Match='"7"').status_code == 200
    # And that of one request not for the next one.
    answers = done(admin, change | {"body": {"status": "lead"}, "if_match": '"2"'}, change)
    assert [answer["version"] for answer in answers] == [3, 4]


def test_a_batch_is_tried_without_a_trace(admin: Caller) -> None:
    requests = (
        ask("POST", "/admin/customers", {"name": "Ada"}),
        ask("POST", "/admin/customers/{{0.id}}/contacts", {"first_name": "Grace"}),
    )
    answer = send(admin, *requests, Dry_Run="true")
    assert (answer.status_code, answer.headers["Dry-Run"]) == (200, "true")
    tried = answer.json()
    customer, contact = tried["result"]["data"]
    assert (customer["id"], contact["id"], contact["customer_id"]) == (None, None, None)
    assert [(each["resource_type"], each["action"]) for each in tried["changes"]] == [
        ("customer", "create"),
        ("contact", "create"),
    ]
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    refused(send(admin, requests[0], ask("POST", "/admin/nothing"), Dry_Run="true"), 404, "NOT_FOUND")
    assert len(done(admin, *requests)) == 2


def test_undoing_its_operation_takes_back_a_batch(admin: Caller) -> None:
    known = admin.customer("Known")
    answer = send(
        admin,
        ask("POST", "/admin/customers", {"name": "Ada"}),
        ask("POST", "/admin/deals", {"title": "Engine", "customer_id": "{{0.id}}"}),
        ask("PATCH", f"/admin/customers/{known['id']}", {"status": "active"}),
    )
    admin.ok("POST", f"/admin/operations/{answer.headers['X-Operation-Id']}/undo", {})
    (left,) = admin.ok("GET", "/admin/customers")["data"]
    assert (left["id"], left["status"]) == (known["id"], known["status"])
    assert admin.ok("GET", "/admin/deals")["total"] == 0


def test_the_second_of_two_with_one_email_is_refused_and_so_is_the_first(admin: Caller) -> None:
    same = ask("POST", "/admin/customers", {"name": "Ada", "email": "ada@example.com"})
    assert refused(send(admin, same, same), 409, "EMAIL_EXISTS") == {"index": 1}
    assert admin.ok("GET", "/admin/customers")["total"] == 0


def test_what_is_trashed_before_its_customer_does_not_come_back_with_it(admin: Caller) -> None:
    customer = admin.customer()["id"]
    first, second = (
        admin.ok("POST", "/admin/notes", {"content": name, "customer_id": customer})["id"] for name in ("1", "2")
    )
    done(admin, ask("DELETE", f"/admin/notes/{first}"), ask("DELETE", f"/admin/customers/{customer}"))
    admin.ok("POST", f"/admin/customers/{customer}/restore")
    assert [note["id"] for note in admin.ok("GET", "/admin/notes")["data"]] == [second]


@pytest.mark.parametrize("many", [False, True])
def test_what_somebody_else_holds_is_to_be_tried_again(many: bool, admin: Caller, settings: Settings) -> None:
    first, held = admin.customer()["id"], admin.customer()["id"]
    with psycopg.connect(settings.migration_dsn) as other:
        enter_tenant(other, admin.tenant, {"user_id": "somebody"})
        other.execute("SELECT FROM customers WHERE id = %s FOR UPDATE", [held])
        if many:
            body = {"ids": [first, held], "action": "update", "values": {"status": "active"}, "partial": True}
            answer = admin.post("/admin/customers/bulk", body)
        else:
            answer = send(
                admin, *(ask("PATCH", f"/admin/customers/{each}", {"status": "active"}) for each in (first, held))
            )
        assert refused(answer, 503, "SERVICE_UNAVAILABLE") == ({} if many else {"index": 1})
        assert answer.headers["Retry-After"] == "1"
    assert admin.ok("GET", f"/admin/customers/{first}")["version"] == 1


def test_an_error_of_the_service_in_one_request_undoes_all(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("app.admin.notes.service._require_link", broken)
    answer = send(
        admin,
        ask("POST", "/admin/customers", {"name": "Ada"}),
        ask("POST", "/admin/notes", {"content": "x", "customer_id": "{{0.id}}"}),
    )
    assert refused(answer, 500, "INTERNAL_ERROR") == {"index": 1}
    assert admin.ok("GET", "/admin/customers")["total"] == 0


@pytest.mark.slow
def test_large_answers_of_requests_arrive_whole(admin: Caller) -> None:
    tags = [admin.tag(f"{number:03d}" + "ü" * 95)["id"] for number in range(300)]
    large = admin.customer("Large", notes="ü" * 10_000)["id"]
    admin.ok("PUT", f"/admin/customers/{large}/tags", {"tag_ids": tags})
    change = ask("PATCH", f"/admin/customers/{large}", {"status": "active"})
    answers = done(admin, *[change] * 8)
    assert [len(answer["tags"]) for answer in answers] == [300] * 8
    assert answers[0].items() <= admin.ok("GET", f"/admin/customers/{large}").items()


def test_a_batch_is_one_request_for_the_limit_the_metrics_and_the_log(
    variant: Any, callers: Callers, tenant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = variant(rate_limit_per_minute=3, open_requests_per_person=1)
    caller = callers.person("admin", tenant, client=client)

    def counted(endpoint: str) -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if f'endpoint="{endpoint}"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("crm_http_requests_total"))

    before = counted("/admin/customers"), counted(BATCH)
    capsys.readouterr()
    requests = [ask("POST", "/admin/customers", {"name": f"Customer {number}"}) for number in range(20)]
    assert [send(caller, *requests).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert (counted("/admin/customers"), counted(BATCH)) == (before[0], before[1] + 4)
    logged = [line for line in capsys.readouterr().out.splitlines() if "/admin/" in line]
    assert len(logged) == 4
    assert all(f"route={BATCH}" in line or f'"route":"{BATCH}"' in line.replace(" ", "") for line in logged)
