"""The pipeline's stages, and deals that go through them."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.settings import Settings
from app.web.cursor import CursorSigner
from tests.callers import Caller, Callers, refused

BUILT_IN = [
    ("prospecting", 10, "#6366f1", "open"),
    ("qualification", 20, "#8b5cf6", "open"),
    ("proposal", 50, "#a855f7", "open"),
    ("negotiation", 75, "#f59e0b", "open"),
    ("closed_won", 100, "#22c55e", "won"),
    ("closed_lost", 0, "#ef4444", "lost"),
]


def stages(caller: Caller) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = caller.ok("GET", "/admin/pipeline-stages")["data"]
    return listed


def deal(caller: Caller, **fields: object) -> dict[str, object]:
    customer = fields.pop("customer_id", None) or caller.customer()["id"]
    made: dict[str, object] = caller.ok("POST", "/admin/deals", {"title": "Deal", "customer_id": customer, **fields})
    return made


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tenant_starts_with_the_built_in_stages_and_nobody_is_audited_for_them(admin: Caller) -> None:
    listed = [(s["name"], s["probability"], s["color"], s["kind"]) for s in stages(admin)]
    assert listed == BUILT_IN
    assert [s["order"] for s in stages(admin)] == [1, 2, 3, 4, 5, 6]
    assert admin.audit() == []


def test_a_new_stage_goes_before_the_first_closed_one_unless_it_says_its_order(admin: Caller) -> None:
    made = admin.ok("POST", "/admin/pipeline-stages", {"name": "legal", "display_name": "Legal"})
    assert (made["order"], made["kind"], made["color"], made["is_active"], made["probability"]) == (
        5, "open", "#64748b", True, 0,
    )  # fmt: skip
    admin.ok("POST", "/admin/pipeline-stages", {"name": "first", "display_name": "First", "order": 1})
    names = ["first", "prospecting", "qualification", "proposal", "negotiation", "legal", "closed_won", "closed_lost"]
    assert [s["name"] for s in stages(admin)] == names
    assert [s["order"] for s in stages(admin)] == list(range(1, 9))
    refused(admin.post("/admin/pipeline-stages", {"name": "legal", "display_name": "Again"}), 409, "STAGE_EXISTS")


@pytest.mark.parametrize("name", ["Legal", "le gal", "", "-x", "x-", "x__y", "ü", "x\ny", "x" * 51])
def test_a_stages_name_is_a_slug(admin: Caller, name: str) -> None:
    refused(admin.post("/admin/pipeline-stages", {"name": name, "display_name": "X"}), 400, "INVALID_REQUEST")


def test_a_stages_name_is_trimmed_before_it_is_looked_at(admin: Caller) -> None:
    made = admin.ok("POST", "/admin/pipeline-stages", {"name": f" {'x' * 50}\n", "display_name": "X"})
    assert made["name"] == "x" * 50
    assert admin.ok("PATCH", f"/admin/pipeline-stages/{made['id']}", {"name": "\u3000legal\xa0"})["name"] == "legal"


def test_stages_are_put_into_a_new_order_by_naming_each_once(admin: Caller) -> None:
    ids = [s["id"] for s in stages(admin)]
    turned = admin.ok("PUT", "/admin/pipeline-stages/order", {"ids": ids[::-1]})
    assert [s["id"] for s in turned["data"]] == ids[::-1]
    for wrong in (ids[1:], [*ids, ids[0]], [*ids[1:], 2**50], []):
        refused(admin.put("/admin/pipeline-stages/order", {"ids": wrong}), 400, "INVALID_REQUEST")
    assert [s["id"] for s in stages(admin)] == ids[::-1]


def test_one_active_stage_of_each_kind_remains(admin: Caller) -> None:
    by_name = {s["name"]: f"/admin/pipeline-stages/{s['id']}" for s in stages(admin)}
    refused(admin.patch(by_name["closed_won"], {"is_active": False}), 409, "LAST_STAGE_OF_KIND")
    refused(admin.patch(by_name["closed_lost"], {"kind": "open"}), 409, "LAST_STAGE_OF_KIND")
    refused(admin.delete(by_name["closed_won"]), 409, "LAST_STAGE_OF_KIND")
    for name in ("qualification", "proposal", "negotiation"):
        admin.ok("DELETE", by_name[name])
    refused(admin.delete(by_name["prospecting"]), 409, "LAST_STAGE_OF_KIND")
    assert [s["order"] for s in stages(admin)] == [1, 2, 3]


def test_a_stage_that_a_deal_is_or_was_in_stays(admin: Caller) -> None:
    by_name = {s["name"]: f"/admin/pipeline-stages/{s['id']}" for s in stages(admin)}
    one = deal(admin)
    admin.ok("PATCH", f"/admin/deals/{one['id']}", {"stage": "proposal"})
    admin.ok("DELETE", f"/admin/deals/{one['id']}")
    for name in ("prospecting", "proposal"):
        refused(admin.delete(by_name[name]), 409, "STAGE_IN_USE")
        admin.ok("PATCH", by_name[name], {"is_active": False})
    admin.ok("DELETE", by_name["qualification"])


def test_a_renamed_stage_keeps_its_deals(admin: Caller) -> None:
    one = deal(admin)
    first = stages(admin)[0]
    admin.ok("PATCH", f"/admin/pipeline-stages/{first['id']}", {"name": "hello"})
    read = admin.ok("GET", f"/admin/deals/{one['id']}")
    assert (read["stage"], read["version"]) == ("hello", 1)
    assert read["stage_history"][0]["to_stage"] == "hello"


# ── deals ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_deal_starts_in_the_first_open_stage_with_the_tenants_currency(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"default_currency": "JPY"})
    made = deal(admin)
    assert (made["stage"], made["probability"], made["currency"], made["amount"]) == ("prospecting", 10, "JPY", 0)
    assert (made["owner_id"], made["customer"]["name"]) == (admin.user_id, "Ada Lovelace")  # type: ignore[index]  # JSON


@pytest.mark.parametrize(
    ("amount", "currency", "fine"),
    [
        (0.1, "USD", True), (1500.25, "EUR", True), (0.001, "USD", False), (5, "JPY", True), (5.5, "JPY", False),
        (0.125, "KWD", True), (0.1255, "KWD", False), (-1, "USD", False), ("5", "USD", False), (10**15, "USD", False),
        (999_999_999_999_999, "USD", True), (10.1234, "CLF", True), (0.0001, "UYW", True), (0.00001, "CLF", False),
        (0.0001, "KWD", False), (True, "USD", False), (None, "USD", False),
    ],
)  # fmt: skip
def test_an_amount_is_an_exact_number_with_its_currencys_decimals(
    admin: Caller, amount: object, currency: str, fine: bool
) -> None:
    body = {"title": "D", "customer_id": admin.customer()["id"], "amount": amount, "currency": currency}
    answer = admin.post("/admin/deals", body)
    if fine:
        assert answer.json()["amount"] == amount
        assert f'"amount":{amount}' in answer.text
    else:
        assert [f["field"] for f in refused(answer, 400, "INVALID_REQUEST")["fields"]] == ["amount"]


def test_a_currency_change_must_fit_the_amount(admin: Caller) -> None:
    one = deal(admin, amount=10.5)
    refused(admin.patch(f"/admin/deals/{one['id']}", {"currency": "JPY"}), 400, "INVALID_REQUEST")
    refused(admin.patch(f"/admin/deals/{one['id']}", {"currency": "EURO"}), 400, "INVALID_CURRENCY")
    assert admin.ok("PATCH", f"/admin/deals/{one['id']}", {"currency": "JPY", "amount": 10})["currency"] == "JPY"


def test_closing_sets_the_date_and_reopening_clears_it(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin, amount=5)['id']}"
    lost = admin.ok("PATCH", path, {"stage": "closed_lost", "lost_reason": "Price", "actual_close_date": "2026-01-02"})
    assert (lost["status"], lost["actual_close_date"], lost["probability"]) == ("lost", "2026-01-02T00:00:00Z", 0)
    opened = admin.ok("PATCH", path, {"stage": "proposal", "probability": 33})
    assert (opened["actual_close_date"], opened["probability"], opened["lost_reason"]) == (None, 33, None)
    assert admin.ok("PATCH", path, {"stage": "closed_won"})["actual_close_date"] is not None


def test_between_closed_stages_the_closing_date_stays_unless_given(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin, amount=5, stage='closed_won', actual_close_date='2026-01-02')['id']}"
    staying: dict[str, Any] = {"actual_close_date": None}
    for body in ({"stage": "closed_lost"}, {"stage": "closed_won"} | staying, staying):
        assert admin.ok("PATCH", path, body)["actual_close_date"] == "2026-01-02T00:00:00Z"
    moved = admin.ok("PATCH", path, {"stage": "closed_lost", "actual_close_date": "2026-03-04"})
    assert moved["actual_close_date"] == "2026-03-04T00:00:00Z"


@pytest.mark.parametrize("stage", ["proposal", "closed_won", "closed_lost"])
def test_closing_fields_are_refused_where_the_deal_is_not_closed_or_lost_after_the_request(
    admin: Caller, stage: str
) -> None:
    wrong = {"proposal": ["actual_close_date", "lost_reason"], "closed_won": ["lost_reason"], "closed_lost": []}[stage]
    given = {"actual_close_date": "2026-01-02", "lost_reason": "Price"}
    body = {"title": "D", "customer_id": admin.customer()["id"], "amount": 5}
    here, elsewhere = deal(admin, amount=5, stage=stage), deal(admin, amount=5)
    answers = [
        admin.post("/admin/deals", body | {"stage": stage} | given),
        admin.patch(f"/admin/deals/{here['id']}", given),
        admin.patch(f"/admin/deals/{elsewhere['id']}", {"stage": stage} | given),
    ]
    for answer in answers:
        if wrong:
            assert [f["field"] for f in refused(answer, 400, "INVALID_REQUEST")["fields"]] == wrong
        else:
            assert (answer.json()["lost_reason"], answer.json()["actual_close_date"]) == (
                "Price",
                "2026-01-02T00:00:00Z",
            )


def test_a_lost_deal_sent_back_in_another_stage_loses_what_was_only_of_the_lost_one(admin: Caller) -> None:
    made = deal(admin, amount=5, stage="closed_lost", lost_reason="Price", actual_close_date="2026-01-02")
    path = f"/admin/deals/{made['id']}"
    assert admin.ok("PUT", path, made)["version"] == 1
    won = admin.ok("PUT", path, made | {"stage": "closed_won"})
    assert (won["lost_reason"], won["actual_close_date"]) == (None, made["actual_close_date"])
    opened = admin.ok("PUT", path, won | {"stage": "proposal"})
    assert (opened["lost_reason"], opened["actual_close_date"]) == (None, None)
    assert admin.ok("PATCH", path, {"lost_reason": None, "actual_close_date": None})["version"] == opened["version"]


def test_the_stage_history_keeps_why_a_deal_was_lost(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin, amount=5, stage='closed_lost', lost_reason='Price')['id']}"
    admin.ok("PATCH", path, {"lost_reason": "Time"})
    admin.ok("PATCH", path, {"stage": "proposal"})
    admin.ok("PATCH", path, {"stage": "closed_lost"})
    history = admin.ok("GET", path)["stage_history"]
    assert [(move["to_stage"], move["reason"]) for move in history] == [
        ("closed_lost", "Time"),
        ("proposal", None),
        ("closed_lost", None),
    ]


def test_a_deal_closed_before_it_was_written_down_took_no_days(admin: Caller) -> None:
    deal(admin, amount=5, stage="closed_won", actual_close_date="2019-05-05")
    assert admin.ok("GET", "/admin/reports/deals/summary")["average_days_to_close"] == 0
    (row,) = admin.ok("GET", "/admin/reports/team")["data"]
    assert row["average_days_to_close"] == 0


def test_won_deals_without_a_closing_date_do_not_count_for_the_days_to_close(admin: Caller, settings: Settings) -> None:
    """Deals may have lost their date once; today none does."""
    won = {"amount": 5, "stage": "closed_won"}
    deal(admin, **won, created_at="2026-01-01T00:00:00Z", actual_close_date="2026-01-11T00:00:00Z")
    undated = deal(admin, **won)["id"]
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute("UPDATE deals SET actual_close_date = NULL WHERE id = %s", [undated])
    (row,) = admin.ok("GET", "/admin/reports/team")["data"]
    assert (row["won_count"], row["average_days_to_close"]) == (2, 10)
    assert admin.ok("GET", "/admin/reports/deals/summary")["average_days_to_close"] == 10


def test_amounts_of_all_sizes_are_exact_sorted_and_found(admin: Caller) -> None:
    texts = ["0", "0.0001", "0.0002", "499999999999999.9999", "500000000000000", "999999999999999.9998"]
    texts += ["999999999999999.9999"]
    customer = admin.customer()["id"]
    for text in reversed(texts):
        body = f'{{"title": "D", "customer_id": {customer}, "currency": "CLF", "amount": {text}}}'
        made = admin.call("POST", "/admin/deals", content=body, headers={"Content-Type": "application/json"})
        assert f'"amount":{text},' in made.text

    def found(**query: object) -> list[str]:
        query = {"sort_by": "amount", "sort_order": "asc", "page_size": 2} | query
        amounts: list[str] = []
        page = admin.get("/admin/deals", **query)
        while True:
            amounts += re.findall('"amount":([0-9.]+),', page.text)
            if (cursor := page.json()["next_cursor"]) is None:
                return amounts
            page = admin.get("/admin/deals", cursor=cursor, page_size=2)

    assert found() == texts
    assert found(sort_order="desc") == texts[::-1]
    for place, text in enumerate(texts):
        assert found(amount_min=text) == texts[place:]
        assert found(amount_max=text) == texts[: place + 1]
    assert found(amount_min="499999999999999.99995", amount_max="999999999999999.99985") == texts[4:6]
    assert found(currency="CLF,EUR") == texts
    assert found(currency="EUR") == []


def test_the_same_stage_is_no_move_and_an_unknown_or_inactive_one_is_refused(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin)['id']}"
    assert admin.ok("PATCH", path, {"stage": "prospecting"})["version"] == 1
    admin.ok("PATCH", f"/admin/pipeline-stages/{stages(admin)[1]['id']}", {"is_active": False})
    for name in ("nowhere", "qualification", "Proposal"):
        refused(admin.patch(path, {"stage": name}), 400, "INVALID_STAGE")
    refused(admin.post("/admin/deals", {"title": "D", "customer_id": 1, "stage": "nowhere"}), 400, "INVALID_STAGE")


def test_who_may_move_backward_is_a_setting(variant: object, callers: Callers, tenant: str, admin: Caller) -> None:
    assert callable(variant)
    client = variant(stage_rollback_roles="admin,manager")
    path = f"/admin/deals/{deal(admin, stage='proposal')['id']}"
    refused(
        callers.person("agent", tenant, client=client).patch(path, {"stage": "prospecting"}),
        403,
        "INSUFFICIENT_PERMISSIONS",
    )
    assert (
        callers.person("manager", tenant, client=client).ok("PATCH", path, {"stage": "prospecting"})["probability"]
        == 10
    )


def test_a_contact_must_be_one_of_the_deals_customer(admin: Caller) -> None:
    one, two = admin.customer("One")["id"], admin.customer("Two")["id"]
    theirs = admin.ok("POST", f"/admin/customers/{two}/contacts", {"first_name": "X"})["id"]
    body = {"title": "D", "customer_id": one, "contact_id": theirs}
    refused(admin.post("/admin/deals", body), 400, "CONTACT_NOT_FOUND")
    made = deal(admin, customer_id=two, contact_id=theirs)
    refused(admin.patch(f"/admin/deals/{made['id']}", {"customer_id": one}), 400, "CONTACT_NOT_FOUND")
    assert (
        admin.ok("PATCH", f"/admin/deals/{made['id']}", {"customer_id": one, "contact_id": None})["customer_id"] == one
    )


def test_references_to_trash_strangers_and_nothing_are_the_same(admin: Caller, stranger: Caller) -> None:
    trashed, theirs = admin.customer("Trashed")["id"], stranger.customer()["id"]
    admin.ok("DELETE", f"/admin/customers/{trashed}")
    answers = [admin.post("/admin/deals", {"title": "D", "customer_id": i}) for i in (trashed, theirs, 2**60)]
    for answer in answers:
        refused(answer, 400, "CUSTOMER_NOT_FOUND")
    assert len({answer.text for answer in answers}) == 1


def test_deals_are_filtered_and_sorted(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for title, amount, stage, owner in (
        ("b", 30, "proposal", "1"),
        ("A", 10, "prospecting", None),
        ("c", 20, "closed_won", "2"),
    ):
        deal(admin, customer_id=customer, title=title, amount=amount, stage=stage, owner_id=owner)
    deal(admin, title="d", expected_close_date="2027-05-05")

    def found(**filters: object) -> str:
        return "".join(
            d["title"]
            for d in admin.ok("GET", "/admin/deals", **{"sort_by": "title", "sort_order": "asc"} | filters)["data"]
        )

    assert found() == "Abcd"
    assert found(sort_by="amount", sort_order="desc") == "bcAd"
    assert found(sort_by="stage") == "Adbc"
    assert found(sort_by="expected_close_date")[0] == "d"
    assert found(stage="proposal,closed_won") == "bc"
    assert found(status="won") == "c"
    assert found(status="open", owner_id="none") == "A"
    assert found(owner_id="1,2") == "bc"
    assert found(amount_min=10.5, amount_max="20") == "c"
    assert found(amount_min=20, amount_max=20) == "c"
    assert found(amount_min=20.0001, amount_max=30.0001) == "b"
    assert found(amount_max="9.9999") == "d"
    assert found(amount_min="10.00000000000000000000000000001", amount_max=20) == "c"
    assert found(amount_min=10**15 - 1) == ""
    assert found(customer_id=customer, search="B") == "b"
    assert found(expected_close_from="2027-05-05", expected_close_to="2027-05-05") == "d"


def test_a_cursor_by_decimal_amounts_is_of_an_earlier_release(admin: Caller, settings: Settings) -> None:
    for amount in (10, 20):
        deal(admin, amount=amount)
    signer = CursorSigner(settings.jwt_secrets)
    position = signer.decode(admin.ok("GET", "/admin/deals", page_size=1, sort_by="amount")["next_cursor"])
    cursor = signer.encode(replace(position, key=["20.000", *position.key[1:]]))
    refused(admin.get("/admin/deals", cursor=cursor), 400, "INVALID_CURSOR")


def test_an_agent_has_its_own_deals_and_those_of_its_customers(admin: Caller, agent: Caller) -> None:
    of_my_customer = deal(admin, customer_id=agent.customer()["id"])
    foreign = deal(admin)
    mine = deal(agent, customer_id=foreign["customer_id"])
    for one in (of_my_customer, mine):
        agent.ok("PATCH", f"/admin/deals/{one['id']}", {"title": "Changed"})
    refused(agent.patch(f"/admin/deals/{foreign['id']}", {"title": "X"}), 403, "INSUFFICIENT_PERMISSIONS")
    for owner in (admin.user_id, None):
        body = {"title": "D", "customer_id": foreign["customer_id"], "owner_id": owner}
        refused(agent.post("/admin/deals", body), 403, "INSUFFICIENT_PERMISSIONS")


def test_limited_to_its_own_an_agent_sees_the_name_of_what_an_own_record_belongs_to(
    own_scope: TestClient[Litestar], callers: Callers, tenant: str, admin: Caller
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    hidden = admin.customer("Hidden Ltd", email="hidden@example.com")
    own = deal(admin, customer_id=hidden["id"], owner_id=limited.user_id, amount=7)
    deal(admin, amount=1000)
    assert limited.ok("GET", "/admin/deals")["total"] == 1
    shown = limited.ok("GET", f"/admin/deals/{own['id']}")["customer"]
    assert shown == {"id": hidden["id"], "name": "Hidden Ltd", "email": None, "company": None}
    refused(limited.get(f"/admin/customers/{hidden['id']}"), 404, "CUSTOMER_NOT_FOUND")
    note = {"content": "X", "customer_id": hidden["id"]}
    refused(limited.post("/admin/notes", note), 400, "CUSTOMER_NOT_FOUND")
    overview = limited.ok("GET", "/admin/reports/overview")
    assert (overview["deals"]["total"], overview["deals"]["total_value"], overview["customers"]["total"]) == (1, 7, 0)


def test_a_new_stage_is_one_change(admin: Caller) -> None:
    made = admin.ok("POST", "/admin/pipeline-stages", {"name": "demo", "display_name": "Demo", "order": 2})
    assert (made["version"], made["order"]) == (1, 2)
    entries = [entry for entry in admin.audit(resource_type="pipeline_stage") if entry["resource_id"] == made["id"]]
    assert [entry["action"] for entry in entries] == ["create"]


def test_a_stage_in_use_says_by_what_and_keeps_its_kind(admin: Caller) -> None:
    made = admin.ok("POST", "/admin/pipeline-stages", {"name": "demo", "display_name": "Demo"})
    path = f"/admin/pipeline-stages/{made['id']}"
    assert admin.ok("PATCH", path, {"kind": "lost"})["kind"] == "lost"
    admin.ok("PATCH", path, {"kind": "open"})
    customer = admin.customer()["id"]
    deals = [
        admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer, "stage": "demo"})["id"]
        for _ in range(3)
    ]
    admin.ok("PATCH", f"/admin/deals/{deals[0]}", {"stage": "negotiation"})
    admin.ok("DELETE", f"/admin/deals/{deals[1]}")
    for refusal in (admin.delete(path), admin.patch(path, {"kind": "won"})):
        data = refused(refusal, 409, "STAGE_IN_USE")
        assert data == {"deals": 1, "trashed_deals": 1, "history": 3}
    assert admin.ok("PATCH", path, {"kind": "open", "display_name": "Demonstration"})["kind"] == "open"
