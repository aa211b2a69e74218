"""What the console expects of each answer, written down by hand from its client's types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from app.web.errors import Code

FOLDER = Path(__file__).parent
CALLS: list[dict[str, Any]] = json.loads((FOLDER / "calls.json").read_text())

TEXT = (str,)
NUMBER = (int, float)
# Those that end in ? may be left out, and are never null.
SHAPES: dict[str, dict[str, Any]] = {
    "message": {"message": TEXT},
    "tag": {"id": TEXT, "name": TEXT, "color?": TEXT, "customer_count": NUMBER, "created_at": TEXT},
    "contact": {
        "id": TEXT,
        "customer_id": TEXT,
        "name": TEXT,
        "email?": TEXT,
        "phone?": TEXT,
        "title?": TEXT,
        "is_primary": (bool,),
        "created_at": TEXT,
        "updated_at": TEXT,
    },
    "customer": {
        "id": TEXT,
        "name": TEXT,
        "email?": TEXT,
        "phone?": TEXT,
        "company?": TEXT,
        "status": {"lead", "active", "inactive"},
        "owner_id?": TEXT,
        "assigned_to?": TEXT,
        "contact_preferences?": (dict,),
        "follow_up_at?": TEXT,
        "created_at": TEXT,
        "updated_at": TEXT,
        "deleted_at?": TEXT,
        "tags": ["tag"],
        "primary_contact?": "contact",
    },
    "its customer": {"id": TEXT, "name": TEXT, "email?": TEXT, "company?": TEXT},
    "its deal": {"id": TEXT, "name": TEXT},
    "person": {"id": TEXT, "name": TEXT, "email?": TEXT},
    "deal": {
        "id": TEXT,
        "name": TEXT,
        "customer_id": TEXT,
        "customer": "its customer",
        "stage": {"lead", "qualified", "proposal", "negotiation", "won", "lost"},
        "amount": NUMBER,
        "currency": TEXT,
        "probability": NUMBER,
        "expected_close_date?": TEXT,
        "owner_id?": TEXT,
        "created_at": TEXT,
        "updated_at": TEXT,
    },
    "activity": {
        "id": TEXT,
        "type": {"call", "email", "meeting", "task", "note"},
        "subject": TEXT,
        "description?": TEXT,
        "customer_id?": TEXT,
        "customer?": "its customer",
        "deal_id?": TEXT,
        "deal?": "its deal",
        "owner_id?": TEXT,
        "owner?": "person",
        "due_at?": TEXT,
        "completed_at?": TEXT,
        "created_at": TEXT,
        "updated_at": TEXT,
    },
    "note": {
        "id": TEXT,
        "content": TEXT,
        "customer_id?": TEXT,
        "customer?": "its customer",
        "deal_id?": TEXT,
        "deal?": "its deal",
        "author_id": TEXT,
        "author": "person",
        "created_at": TEXT,
        "updated_at": TEXT,
    },
    "overview": {
        "metrics": "metrics",
        "deals_by_stage": ["stage figures"],
        "activities_over_time": ["day"],
        "top_performers": ["performer"],
    },
    "metrics": {
        "total_customers": NUMBER,
        "active_deals": NUMBER,
        "pipeline_value": NUMBER,
        "pipeline_value_by_currency": (dict,),
        "activities_this_week": NUMBER,
        "customers_this_month": NUMBER,
        "won_deals_this_month": NUMBER,
    },
    "stage figures": {
        "stage": {"lead", "qualified", "proposal", "negotiation", "won", "lost"},
        "count": NUMBER,
        "value": NUMBER,
        "value_by_currency": (dict,),
    },
    "day": {"date": TEXT, "count": NUMBER, "breakdown": (dict,)},
    "performer": {"id": TEXT, "name": TEXT, "email?": TEXT, "deals_closed": NUMBER, "pipeline_value": NUMBER},
}


def check_shape(value: Any, shape: Any, where: str = "the answer") -> None:
    """Fail unless the value has exactly this shape."""
    if isinstance(shape, str) and shape.startswith("page of "):
        assert set(value) == {"data", "total", "page", "limit", "total_pages"}, where
        assert value["data"], f"{where} shows nothing"
        check_shape(value["data"], [shape.removeprefix("page of ")], where)
    elif isinstance(shape, str) and shape.startswith("["):
        check_shape(value, [shape.strip("[]")], where)
    elif isinstance(shape, str):
        fields = SHAPES[shape]
        names = {name.rstrip("?") for name in fields}
        assert set(value) <= names, f"{where} has more: {set(value) - names}"
        for name, inner in fields.items():
            if not name.endswith("?") or name.rstrip("?") in value:
                check_shape(value[name.rstrip("?")], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for item in value:
            check_shape(item, shape[0], f"{where}[]")
    elif isinstance(shape, set):
        assert value in shape, f"{where} is {value!r}"
    else:
        assert isinstance(value, shape), f"{where} is {value!r}"
        assert isinstance(value, bool) is (bool in shape), where


def check_ids(value: Any, where: str = "the answer") -> None:
    """Fail where an id, at whatever depth, is no text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "id" or name.endswith("_id") or name == "assigned_to":
                assert isinstance(inner, str), f"{where}.{name} is {inner!r}"
            check_ids(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for inner in value:
            check_ids(inner, f"{where}[]")


def check_answers(results: list[dict[str, Any]], role: str) -> None:
    """Fail unless each call of the table was answered as the table says for this role."""
    assert len(results) == len(CALLS)
    for call, result in zip(CALLS, results, strict=True):
        where = f"{role}: {call['call']}"
        if role in call.get("may", [role]):
            assert result["status"] == call["status"], f"{where}: {result}"
            check_shape(result["body"], call["answers"], where)
        else:
            assert result["status"] == 403, f"{where}: {result}"
            assert result["body"]["code"] == Code.INSUFFICIENT_PERMISSIONS.name
        check_ids(result["body"], where)


def filled(value: Any, saved: dict[str, str]) -> Any:
    """The value with what earlier calls answered in place of {names}."""
    if isinstance(value, str):
        return re.sub(r"\{([^}]+)\}", lambda match: saved[match[1]], value)
    if isinstance(value, list):
        return [filled(inner, saved) for inner in value]
    if isinstance(value, dict):
        return {name: filled(inner, saved) for name, inner in value.items()}
    return value
