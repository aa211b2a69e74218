"""What hostile records say reaches a model as data only; and a model that obeys it does no harm by the tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.admin.tools.arguments import Report
from app.admin.tools.catalogue import TOOLS
from app.admin.tools.kinds import Listed, Readable
from tests.callers import Caller, Callers
from tests.injection.corpus import ELSEWHERE, Planted, numbers_in, orders_in, plant
from tests.tools import Tools

SIGNS = ("{{", "+n=", "SYSTEM", "Ignore all", "evil.example", "Pwned")
SECRET = "secret-of-another-organization"


@pytest.fixture
def planted(admin: Caller, stranger: Caller, callers: Callers) -> Planted:
    return plant(admin, callers, foreign=stranger.customer(SECRET, notes=SECRET)["id"])


def everything(tools: Tools, planted: Planted) -> dict[str, dict[str, Any]]:
    """What each reading tool answers, of all records."""
    seen: dict[str, dict[str, Any]] = {}
    for kind in Readable:
        read: dict[str, Any] = {"type": kind, "id": planted.ids[kind]}
        seen[f"get {kind}"] = page = tools.ok("get_record", **read)
        while cursor := page.get("next_cursor"):
            seen[f"get {kind} {cursor}"] = page = tools.ok("get_record", **read, cursor=cursor)
    for listed in Listed:
        seen[f"list {listed}"] = tools.ok("list_records", type=listed)
        seen[f"describe {listed}"] = tools.ok("describe", type=listed)
    for report in Report:
        seen[f"report {report}"] = tools.ok("report", report=report)
    seen["search"] = tools.ok("search", q="secret", limit=50)
    seen["day"] = tools.ok("my_day")
    seen["describe"] = tools.ok("describe")
    return seen


def outside(content: Any) -> Any:
    """The content without what is marked as data."""
    if isinstance(content, list):
        return [outside(item) for item in content]
    if isinstance(content, dict):
        return {name: outside(value) for name, value in content.items() if name != "untrusted"}
    return content


def test_text_of_records_is_marked_as_data_wherever_a_tool_shows_it(admin: Caller, planted: Planted) -> None:
    seen = everything(Tools(admin, "admin"), planted)
    for place, content in seen.items():
        trusted = json.dumps(outside(content), ensure_ascii=False)
        assert not any(sign in trusted for sign in SIGNS), place
    shown = numbers_in(json.dumps(list(seen.values()), ensure_ascii=False))
    assert {planted.fields[number] for number in planted.fields.keys() - shown} == set(), "no tool shows these"


def test_a_model_that_obeys_every_record_changes_nothing_and_sees_nothing_of_others(
    admin: Caller, planted: Planted
) -> None:
    tools = Tools(admin, "admin")
    before = admin.audit()
    done: set[str] = set()
    waiting = [json.dumps(content, ensure_ascii=False) for content in everything(tools, planted).values()]
    while waiting:
        for order in orders_in(waiting.pop()):
            if repr(order) not in done:
                done.add(repr(order))
                answered = tools.result(order.tool, **order.arguments).text
                assert SECRET not in answered
                waiting.append(answered)
    assert len(done) >= 9
    assert admin.audit() == before
    proposals = admin.ok("GET", "/admin/proposals", page_size=100)["data"]
    assert {each["tool"] for each in proposals} >= {"delete_record", "update_record", "move_deal"}
    assert all(tool.plan is None or tool.name != "approve_proposal" for tool in TOOLS)
    assert ELSEWHERE in json.dumps(tools.ok("list_records", type="customer"))
