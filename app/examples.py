"""Examples of answers for the API reference, filled with the same few values by the names of fields."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import fields

from app.web import strict_json

PERSON = "6f9619ff-8b86-4d11-b42d-00c04fc964ff"
# Values by field.
VALUES: dict[str, Any] = {
    "customer_id": 12,
    "contact_id": 31,
    "deal_id": 7,
    "activity_id": 52,
    "project_id": 23,
    "resource_id": 12,
    "resource_type": "customer",
    "operation_id": "0199b1c2-7a3e-4b1d-9c55-3f1e2d4c5b6a",
    "via": "api",
    "user_name": "Alan Agent",
    "user_role": "agent",
    "author_name": "Alan Agent",
    "email": "ada@analytical.example",
    "phone": "+44 20 7946 0000",
    "company": "Analytical Engines Ltd",
    "role": "CTO",
    "industry": "Engineering",
    "website": "https://analytical.example",
    "status": "active",
    "contact_preferences": {"channel": "phone"},
    "notes": "Likes to be called before noon.",
    "content": "Likes to be called before noon.",
    "first_name": "Grace",
    "last_name": "Hopper",
    "position": "Head of Purchasing",
    "title": "Difference engine, 2 pieces",
    "subject": "Send the offer",
    "description": "With cogs, without crank.",
    "stage": "proposal",
    "display_name": "Proposal",
    "from_stage": "qualification",
    "to_stage": "proposal",
    "currency": "USD",
    "default_currency": "USD",
    "timezone": "Europe/London",
    "color": "#f59e0b",
    "probability": 50,
    "order": 3,
    "priority": "high",
    "duration": 30,
    "file_name": "offer.pdf",
    "content_type": "application/pdf",
    "size": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hash": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "download_url": "https://files.example.com/offer.pdf?signature=…",
    "upload_url": "https://files.example.com/incoming/5b1c?signature=…",
    "headers": {"Content-Type": "application/pdf"},
    "tenant_id": "acme",
    "roles": ["agent"],
    "permissions": ["read", "write", "manage_own"],
    "external_id": "erp-1042",
    "action": "update",
    "ip_address": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "request_id": "0b6f1d5c8e3a4f1c9d7e",
    "old_values": {"status": "lead"},
    "new_values": {"status": "active"},
    "changes": {"status": {"old": "lead", "new": "active"}},
    "date": "2026-01-12",
    "period": "2026-Q1",
    "start": "2026-01-01",
    "end": "2026-03-31",
    "breakdown": {"call": 1, "email": 0, "meeting": 1, "task": 1, "note": 0},
    "checks": {"database": "ok"},
    "created_at": "2026-01-05T09:30:00Z",
    "updated_at": "2026-01-12T14:05:00Z",
    "due_date": "2026-01-19T10:00:00Z",
    "due_at": "2026-01-19T10:00:00Z",
    "remind_at": "2026-01-19T09:30:00Z",
    "expected_close_date": "2026-02-27T00:00:00Z",
    "starts_at": "2026-01-19T10:00:00Z",
    "ends_at": "2026-01-19T10:30:00Z",
    "customer_name": "Ada Lovelace",
    "by_status": {"lead": 2, "prospect": 1, "active": 3, "inactive": 1, "churned": 0},
    "by_stage": {"prospecting": 1, "qualification": 1, "proposal": 2, "closed_won": 3},
    "by_type": {"call": 4, "email": 2, "meeting": 1, "task": 3, "note": 0},
    "sequence": 1042,
    "next_follow_up_at": "2026-01-20T00:00:00Z",
    "follow_up_at": "2026-01-20T12:00:00Z",
    "total": 1,
    "page": 1,
    "page_size": 20,
    "limit": 20,
    "total_pages": 1,
    "message": "Customer deleted successfully",
    "is_active": True,
    "contacted": True,
    "is_primary": True,
}
# Other values for the fields of certain records.
VALUES_BY_RECORD: dict[str, dict[str, Any]] = {
    "Customer": {"id": 12, "name": "Ada Lovelace"},
    "CustomerDetail": {"id": 12, "name": "Ada Lovelace"},
    "CustomerBrief": {"id": 12, "name": "Ada Lovelace"},
    "RecentDeal": {"id": 7},
    "TopCustomer": {"id": 12, "name": "Ada Lovelace"},
    "Contact": {"id": 31, "name": "Grace Hopper", "email": "grace@analytical.example", "title": "Head of Purchasing"},
    "ContactBrief": {"id": 31, "email": "grace@analytical.example"},
    "Tag": {"id": 2, "name": "VIP"},
    "Deal": {"id": 7, "status": "open", "name": "Difference engine, 2 pieces"},
    "DealDetail": {"id": 7, "status": "open"},
    "DealBrief": {"id": 7, "name": "Difference engine, 2 pieces"},
    "PipelineStage": {"id": 3, "name": "proposal", "color": "#a855f7"},
    "StageMove": {"id": 19, "user_name": "Alan Agent"},
    "Project": {"id": 23, "name": "New website", "status": "in_progress", "tasks_total": 8},
    "ProjectDetail": {"id": 23, "name": "New website", "status": "in_progress", "tasks_total": 8},
    "ProjectBrief": {"id": 23, "name": "New website"},
    "Activity": {"id": 52, "title": "Send the offer", "type": "task", "status": "scheduled"},
    "CalendarEntry": {"title": "Send the offer", "status": "scheduled"},
    "AnswerEvent": {"type": "text", "conversation_id": 7, "text": "Ada is"},
    "BegunAnswer": {"conversation_id": 7, "message_id": 40, "answer_id": 41},
    "AccessToken": {"id": 5, "name": "Claude", "scope": "propose", "token": "crm_pat_…"},
    "ResourceMetadata": {
        "resource": "https://crm.example.com/admin/mcp",
        "bearer_methods_supported": ["header"],
        "resource_name": "CRM",
        "authorization_servers": ["https://login.example.com"],
    },
    "Feed": {"id": 9, "name": "My work", "url": "https://crm.example.com/public/calendar/….ics"},
    "CalendarRecord": {"type": "activity", "id": 52},
    "CalendarCustomer": {"id": 12, "name": "Ada Lovelace"},
    "Note": {"id": 88},
    "Notification": {
        "id": 310,
        "kind": "assigned",
        "text": "Alan Agent assigned a deal to you: Difference engine, 2 pieces",
    },
    "NotificationActor": {"id": PERSON, "name": "Alan Agent"},
    "NotificationRecord": {"type": "deal", "id": 7, "title": "Difference engine, 2 pieces"},
    "NotificationSettings": {"kinds": {"reminder": {"in_app": True, "email": True}}, "digest_at": "08:00"},
    "QuietHours": {"from": "20:00", "to": "07:00"},
    "Remind": {"follow_ups": 900, "closings": 2340},
    "Attachment": {"id": 5},
    "AttachmentDetail": {"id": 5},
    "Upload": {"id": 5},
    "AuditEntry": {"id": 1042},
    "User": {"id": PERSON, "name": "Alan Agent", "email": "alan@example.com", "role": "agent"},
    "Member": {
        "id": 4,
        "user_id": PERSON,
        "name": "Alan Agent",
        "email": "alan@example.com",
        "role": "agent",
        "token_role": "admin",
        "narrowed_to": "agent",
    },
    "Person": {"id": PERSON, "name": "Alan Agent", "email": "alan@example.com", "role": "agent"},
    "Performer": {"id": PERSON, "name": "Alan Agent", "email": "alan@example.com"},
    "TeamMember": {"id": PERSON, "name": "Alan Agent", "email": "alan@example.com"},
    "TimelineEvent": {"type": "status_changed", "data": {"from": "lead", "to": "active"}},
    "Event": {
        "sequence": 1042,
        "type": "customer.assigned",
        "types": ["customer.assigned", "customer.updated"],
        "changes": {"assigned_to": {"old": None, "new": PERSON}},
        "record": {"id": 12, "name": "Ada Lovelace", "version": 3},
    },
    "Events": {"last_sequence": 1042},
    "Webhook": {
        "id": 4,
        "url": "https://erp.example/crm-events",
        "types": ["deal.won", "customer.*"],
        "description": "Our ERP",
        "secret": None,
    },
    "Delivery": {"id": 8120, "message_id": "msg_4_1042", "type": "deal.won", "status": "delivered"},
    "Attempt": {"status": 200, "duration_ms": 84, "response": "ok"},
    "WebhookTest": {"status": 200, "duration_ms": 84, "response": "ok"},
    "BulkResult": {"matched": 3, "changed": 1, "unchanged": 1},
    "BulkRefusal": {"id": 12, "code": "INSUFFICIENT_PERMISSIONS", "message": "This record is not yours"},
    "Job": {
        "id": 61,
        "status": "done",
        "attempts": 1,
        "result": {"matched": 1800, "changed": 1790, "unchanged": 10, "refused": []},
    },
    "ImportBrief": {"status": "checked", "file_name": "people.csv", "encoding": "utf-8", "delimiter": ";", "rows": 812},
    "Import": {
        "status": "checked",
        "file_name": "people.csv",
        "encoding": "utf-8",
        "delimiter": ";",
        "header": True,
        "rows": 812,
        "remarks": ["Row 17 has more cells than the header: what is there stands in columns named by number"],
        "mapping": {"Full name": "name", "Shoe size": None},
        "options": {"match_on": "external_id"},
        "job_id": 61,
    },
    "ImportColumn": {
        "name": "Full name",
        "samples": ["Ada Lovelace", "Grace Hopper"],
        "field": "name",
        "confidence": 1.0,
    },
    "ImportSummary": {"create": 790, "update": 12, "unchanged": 8, "skip": 0, "error": 2, "warning": 5},
    "Proposal": {
        "id": 14,
        "status": "pending",
        "via": "mcp",
        "tool": "update_record",
        "summary": "Change customer 12: status",
        "title": "Ada Lovelace",
        "expires_at": "2026-01-12T14:20:00Z",
    },
    "ProposedRequest": {"method": "PATCH", "path": "/admin/customers/12", "body": {"status": "active"}},
    "ApprovedProposal": {"result": {"id": 12, "name": "Ada Lovelace", "status": "active"}},
    "JobProgress": {"done": 1800, "total": 1800},
    "BatchAnswers": {"data": [{"id": 12, "name": "Ada Lovelace", "version": 1}]},
    "StatusSum": {"status": "open"},
    "Health": {"status": "healthy", "version": "1.0.0"},
    "Status": {"status": "ready"},
}
# Fields that are null in the examples.
NULL_FIELDS = frozenset(
    "deleted_at lost_reason actual_close_date completed_at outcome left_at seconds next_cursor error secret"
    " failing_since next_attempt_at sheet".split()
)


def example(kind: Any) -> Any:
    """An answer of this type, as JSON values."""
    decoded = msgspec.json.decode(msgspec.json.encode(_value(kind, "", "")), type=kind)
    return msgspec.json.decode(strict_json.encode(decoded))


def _value(kind: Any, name: str, owner: str) -> Any:
    kind, *others = _options(kind)
    if NoneType in (kind, *others) and (name in NULL_FIELDS or kind is NoneType):
        return None
    plain = get_origin(kind) or kind
    if isinstance(plain, type) and issubclass(plain, Struct):
        return {
            field.encode_name: _value(field.type, field.encode_name, plain.__name__)
            for field in fields(kind)
            if field.default is not UNSET
        }
    if plain is list and not _is_leaf(item := get_args(kind)[0]):
        return [_value(item, name, owner)]
    if int in (kind, *others) and str in (kind, *others):
        return PERSON
    value = VALUES_BY_RECORD.get(owner, {}).get(name, VALUES.get(name))
    return _fallback(kind, name) if value is None else _convert(kind, value)


def _options(kind: Any) -> list[Any]:
    """The alternatives of a type, without annotations."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_args(kind) and get_origin(kind) not in {list, dict} and not _is_struct(kind):
        return [option for argument in get_args(kind) for option in _options(argument)]
    return [kind]


def _is_struct(kind: Any) -> bool:
    plain = get_origin(kind) or kind
    return isinstance(plain, type) and issubclass(plain, Struct)


def _is_leaf(kind: Any) -> bool:
    return not _is_struct(_options(kind)[0])


def _convert(kind: Any, value: Any) -> Any:
    """The value in the declared type: an id as text, or a member of the enumeration."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value if value in {member.value for member in kind} else next(iter(kind)).value
    return str(value) if kind is str else value


def _fallback(kind: Any, name: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind)).value
    if get_origin(kind) is dict or kind is dict:
        return {"USD": 48000.5} if name.endswith("by_currency") else {}
    by_type = {
        int: 3,
        bool: False,
        Decimal: 48000.5,
        float: 0.5,
        datetime: "2026-01-12T14:05:00Z",
        date: "2026-01-12",
        UUID: PERSON,
        str: PERSON if name.endswith("_id") or name == "assigned_to" else name.replace("_", " "),
    }
    return [] if get_origin(kind) is list else by_type.get(kind)
