"""Tags, as an admin keeps them."""

from __future__ import annotations

import psycopg
import pytest

from tests.callers import Caller, refused


def test_tags_are_listed_by_name_with_the_live_customers_that_wear_them(admin: Caller) -> None:
    b, a = admin.tag("b", color="#6366F1"), admin.tag("A")
    live, trashed = admin.customer("Live"), admin.customer("Trashed")
    for customer in (live, trashed):
        admin.ok("PUT", f"/admin/customers/{customer['id']}/tags", {"tag_ids": [b["id"]]})
    admin.ok("DELETE", f"/admin/customers/{trashed['id']}")
    listed = admin.ok("GET", "/admin/tags")
    assert listed == {"data": [a, b | {"customer_count": 1}], "total": 2}


def test_a_name_is_taken_whatever_its_case(admin: Caller, stranger: Caller) -> None:
    vip = admin.tag("Größe")
    refused(admin.post("/admin/tags", {"name": "gRÖßE"}), 409, "TAG_EXISTS")
    other = admin.tag("Other")
    refused(admin.patch(f"/admin/tags/{other['id']}", {"name": "größe"}), 409, "TAG_EXISTS")
    assert admin.ok("PATCH", f"/admin/tags/{vip['id']}", {"name": "GRÖSSE"})["version"] == 2
    stranger.tag("Größe")


@pytest.mark.parametrize("color", ["red", "#12345", "#1234567", "#gggggg", "123456", " ", 7])
def test_a_color_is_six_hexadecimal_digits(admin: Caller, color: object) -> None:
    data = refused(admin.post("/admin/tags", {"name": "VIP", "color": color}), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == ["color"]


def test_an_empty_color_is_as_if_left_out(admin: Caller) -> None:
    tag = admin.ok("POST", "/admin/tags", {"name": "VIP", "color": ""})
    assert tag["color"] is None
    refused(admin.patch(f"/admin/tags/{tag['id']}", {"color": ""}), 400, "NO_UPDATES")


def test_deleting_a_tag_takes_it_off_every_customer_and_each_of_them_says_so(admin: Caller) -> None:
    tag, kept = admin.tag("Gone")["id"], admin.tag("Kept")["id"]
    customers = [admin.customer(name) for name in ("Live", "Trashed", "Bare")]
    for customer in customers[:2]:
        admin.ok("PUT", f"/admin/customers/{customer['id']}/tags", {"tag_ids": [tag, kept]})
    admin.ok("DELETE", f"/admin/customers/{customers[1]['id']}")
    assert admin.ok("DELETE", f"/admin/tags/{tag}") == {"message": "Tag deleted successfully"}
    refused(admin.get(f"/admin/tags/{tag}"), 404, "TAG_NOT_FOUND")
    admin.ok("POST", f"/admin/customers/{customers[1]['id']}/restore")
    for customer in customers[:2]:
        worn = admin.ok("GET", f"/admin/customers/{customer['id']}")["tags"]
        assert [badge["id"] for badge in worn] == [kept]
        changes = [entry["changes"] for entry in admin.audit(resource_type="customer", resource_id=customer["id"])]
        assert {"tags": {"old": [tag, kept], "new": [kept]}} in changes
    assert len(admin.audit(resource_type="customer", resource_id=customers[2]["id"])) == 1
    assert admin.audit(resource_type="tag", resource_id=tag)[0]["action"] == "delete"


def test_a_tag_deleted_under_if_match_must_be_that_version(admin: Caller) -> None:
    path = f"/admin/tags/{admin.tag()['id']}"
    refused(admin.delete(path, headers={"If-Match": '"2"'}), 412, "VERSION_CONFLICT")
    assert admin.delete(path, headers={"If-Match": '"1"'}).status_code == 200


def test_there_are_so_many_tags_and_stages_at_most(admin: Caller, service_connection: psycopg.Connection) -> None:
    admin.tag("First")
    with service_connection.transaction():
        service_connection.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        service_connection.execute(
            "INSERT INTO tags (tenant_id, name) SELECT %s, 'Tag ' || n FROM generate_series(2, 1000) n", [admin.tenant]
        )
    assert refused(admin.post("/admin/tags", {"name": "One more"}), 409, "LIMIT_REACHED") == {"max": 1000}
    stages = admin.ok("GET", "/admin/pipeline-stages")["total"]
    for number in range(stages, 100):
        admin.ok("POST", "/admin/pipeline-stages", {"name": f"stage_{number}", "display_name": "A"})
    one_more = admin.post("/admin/pipeline-stages", {"name": "one_more", "display_name": "A"})
    assert refused(one_more, 409, "LIMIT_REACHED") == {"max": 100}
