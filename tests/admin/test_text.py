"""Text as people type it: what is kept of it, and what is alike."""

from __future__ import annotations

from typing import Any

import pytest

from tests.callers import Caller, refused

DECOMPOSED, COMPOSED = "Mu\u0308ller", "Müller"


def test_text_is_kept_composed_and_trimmed(admin: Caller) -> None:
    customer = admin.customer(f" \u3000{DECOMPOSED}\t", company=f"{DECOMPOSED}\xa0", notes=f"  {DECOMPOSED}\n\n\tx ")
    assert (customer["name"], customer["company"]) == (COMPOSED, COMPOSED)
    assert customer["notes"] == f"  {COMPOSED}\n\n\tx "
    assert admin.ok("POST", "/admin/tags", {"name": f" {DECOMPOSED} "})["name"] == COMPOSED


def test_a_length_is_that_of_what_is_kept(admin: Caller) -> None:
    assert len(admin.customer("u\u0308" * 255 + "  ")["name"]) == 255
    assert len(admin.customer("\U0001f600" * 255)["name"]) == 255


def test_text_sent_back_as_it_was_kept_is_no_change(admin: Caller) -> None:
    customer = admin.customer(DECOMPOSED)
    again = admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"name": f"{DECOMPOSED} "})
    assert again["version"] == 1


def test_an_empty_text_is_none(admin: Caller) -> None:
    customer = admin.customer("Ada", company="", phone=" ", email="\u2003", role="", notes="")
    assert [customer[name] for name in ("company", "phone", "email", "role", "notes")] == [None] * 5
    customer = admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"company": "Acme"})
    assert admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"company": " "})["company"] is None


def test_an_empty_choice_is_left_out(admin: Caller) -> None:
    customer = admin.customer("Ada", status="")
    assert customer["status"] == "lead"
    deal = admin.ok(
        "POST", "/admin/deals", {"title": "Deal", "customer_id": customer["id"], "stage": "", "currency": ""}
    )
    assert (deal["stage"], deal["currency"]) == ("prospecting", "USD")
    refused(admin.call("PATCH", f"/admin/customers/{customer['id']}", json={"status": ""}), 400, "NO_UPDATES")
    refused(admin.call("PATCH", f"/admin/deals/{deal['id']}", json={"stage": "", "currency": ""}), 400, "NO_UPDATES")
    tag = admin.ok("POST", "/admin/tags", {"name": "VIP", "color": ""})
    assert tag["color"] is None


@pytest.mark.parametrize("name", ["\u200b", " \u2060\xa0", "\u202e\u202c", "\u3164", "\u00ad"])
def test_a_name_is_something_that_is_seen(name: str, admin: Caller) -> None:
    for path, body in (
        ("/admin/customers", {"name": name}),
        ("/admin/tags", {"name": name}),
        ("/admin/pipeline-stages", {"name": "seen", "display_name": name}),
        ("/console/admin/customers", {"name": name}),
    ):
        data = refused(admin.call("POST", path, json=body), 400, "INVALID_REQUEST")
        assert [fault["field"] for fault in data["fields"]] == [list(body)[-1]]


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x1bb", "a\x85b", "a\u2028b"])
def test_one_line_has_no_control_characters(text: str, admin: Caller) -> None:
    data = refused(admin.call("POST", "/admin/customers", json={"name": text, "phone": text}), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == ["name", "phone"]
    assert admin.ok("POST", "/admin/customers", {"name": "a", "notes": text})["notes"] == text


def test_a_value_in_quotes_is_taken_as_it_stands(admin: Caller) -> None:
    admin.customer("Ada", assigned_to="smith,john")
    admin.customer("Bob", assigned_to="me")
    admin.customer("Cleo", assigned_to=admin.user_id)
    admin.customer("Dora")

    def found(value: str) -> set[str]:
        return {each["name"] for each in admin.ok("GET", "/admin/customers", assigned_to=value)["data"]}

    assert found('"smith,john"') == {"Ada"}
    assert found('"me"') == {"Bob"}
    assert found("me") == {"Cleo"}
    assert found('none,"smith,john", me') == {"Ada", "Cleo", "Dora"}
    assert found(" , ") == {"Ada", "Bob", "Cleo", "Dora"}
    refused(admin.call("GET", "/admin/customers", params={"assigned_to": '"smith'}), 400, "INVALID_REQUEST")
    first = admin.ok("GET", "/admin/customers", assigned_to='"me","smith,john"', page_size="1")
    second = admin.ok("GET", "/admin/customers", cursor=first["next_cursor"])
    assert {each["name"] for each in first["data"] + second["data"]} == {"Ada", "Bob"}


@pytest.mark.parametrize("stages", ["nowhere", "proposal,nowhere", '"proposal,negotiation"'])
def test_an_unknown_stage_is_no_filter(stages: str, admin: Caller) -> None:
    data: Any = refused(admin.call("GET", "/admin/deals", params={"stage": stages}), 400, "INVALID_STAGE")
    assert [fault["field"] for fault in data["fields"]] == ["stage"]
