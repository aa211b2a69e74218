"""Calling a tool for a person: what it answers, and what is wrong with a call, in words for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from app.access.permissions import Permission
from app.admin.audit.schemas import AuditEntry
from app.admin.inside import Answer
from app.admin.proposals import queries
from app.admin.proposals.schemas import ProposedRequest
from app.admin.tools.answers import MOST_BYTES, UNTRUSTED, fitting_rows, size
from app.admin.tools.catalogue import BY_NAME, TOOLS
from app.admin.tools.tool import Caller, Mode, Request, Tool, ToolError, ToolResult
from app.db.database import Origin
from app.records.resources import LONGEST_TITLE
from app.records.transaction import writing
from app.web import strict_json
from app.web.error_responses import as_app_error
from app.web.errors import AppError, Code
from app.web.input import read_again

MOST_ARGUMENT_BYTES = 256 * 1024
LONGEST_ERROR = 1500
# What an answer has beside its rows.
AROUND = 300
# What touches more records is always proposed first.
MOST_AT_ONCE = 10
# What every new record gets.
STAMPED = frozenset({"id", "created_at", "updated_at"})
NOTHING: tuple[Any, ...] = (None, False, [], {})
# What to do next, by the code of an error.
NEXT = {
    Code.INVALID_REQUEST: "Mend that and call again; describe lists fields, filters and values.",
    Code.INVALID_STAGE: "Call describe with type deal for the stages.",
    Code.INSUFFICIENT_PERMISSIONS: "The person may not do this: say so, and do not try another way.",
    Code.STAGE_ROLLBACK_FORBIDDEN: "Say so, and do not try another way.",
    Code.MISSING_LINK: "Name the customer_id, deal_id, activity_id or project_id.",
    Code.EMAIL_EXISTS: "Use that customer instead.",
    Code.RATE_LIMITED: "Wait a little.",
    Code.SERVICE_UNAVAILABLE: "Wait a little, and call again once.",
    Code.CHANGED_SINCE: "Read the record again.",
    Code.LIMIT_REACHED: "Tell the person.",
    Code.INVALID_CURSOR: "Leave cursor out, and call again.",
}


def offered(mode: Mode) -> tuple[Tool, ...]:
    """The tools that a model is told of."""
    return tuple(tool for tool in TOOLS if tool.reads or mode != "off")


async def call(caller: Caller, name: str, arguments: Any) -> ToolResult:
    """What the tool answers. It never raises for what is wrong with a call: that is an answer, too."""
    try:
        tool = BY_NAME.get(name)
        if tool is None:
            raise ToolError(f"There is no tool {name[:50]!r}; there are {', '.join(BY_NAME)}.")
        if not tool.reads and caller.mode == "off":
            raise ToolError("Tools may not write here: tell the person what to change by hand.")
        sent = checked(arguments)
        given = read_again(sent, tool.arguments)
        # Whoever was shut out since the last call is told so.
        actor = await caller.app.state.authenticator.check_again(caller.actor, Permission.READ)
        caller = replace(caller, actor=actor)
        if tool.run is not None:
            return ToolResult(await tool.run(caller, given))
        assert tool.plan is not None  # noqa: S101 -- one of both
        return await _write(caller, tool, tool.plan(given, sent))
    except ToolError as error:
        return ToolResult({"error": str(error)[:LONGEST_ERROR]}, is_error=True)
    except AppError as refusal:
        return ToolResult({"error": told(refusal), "code": refusal.code.name}, is_error=True)
    except Exception as error:  # noqa: BLE001 -- it is logged, and nothing of it is told
        hidden = as_app_error(error)
        return ToolResult({"error": told(hidden), "code": hidden.code.name}, is_error=True)


def told(refusal: AppError) -> str:
    """An error of the API as a sentence that says what to do next."""
    said = refusal.message.rstrip(".")
    data = refusal.data if isinstance(refusal.data, dict) else {}
    for field in data.get("fields", [])[:10]:
        if field["field"] not in said:
            said += f"; {field['field']}: {field['message']}"
    known = {name: value for name, value in data.items() if name.endswith("_id") and isinstance(value, int)}
    if known:
        said += f" ({', '.join(f'{name} {value}' for name, value in known.items())})"
    if refusal.code in NEXT:
        following = NEXT[refusal.code]
    elif refusal.code.name.endswith("_NOT_FOUND"):
        following = "Find its id with search or list_records."
    else:
        following = "Tell the person if you can't mend that."
    return f"{said[:LONGEST_ERROR]}. {following}"


async def _write(caller: Caller, tool: Tool, request: Request) -> ToolResult:
    """Try it, and do it if that may be; else keep it for the person to approve. Raises AppError as the request."""
    tried = await caller.send(request.method, request.path, body=request.body, headers={"Dry-Run": "true"})
    if tried.refused:
        raise tried.refusal()
    shown = strict_json.decode_own(tried.body)
    changes: list[dict[str, Any]] = shown["changes"]
    known = {(each["resource_type"], each["resource_id"]) for each in changes if each["resource_id"] is not None}
    touched = len(known) + sum(each["resource_id"] is None for each in changes) + shown["more"]
    if not touched:
        return ToolResult({"done": False, "next": "Nothing would change: it is so already."})
    if caller.mode == "on" and not tool.destructive and touched <= MOST_AT_ONCE:
        done = await caller.send(request.method, request.path, body=request.body)
        if done.refused:
            raise done.refusal()
        return ToolResult(_shown({"done": True, "summary": request.summary}, _with_ids(changes, done), 0))
    others = f", and {touched - 1} more records" if touched > 1 else ""
    summary = request.summary + others
    title = _title(request, shown["result"], tried.tried)
    async with writing(caller.app.state.database, caller.actor, Origin()) as tx:
        kept = await queries.keep(
            tx,
            via=caller.via or "mcp",
            tool=tool.name,
            summary=summary,
            title=title,
            request=ProposedRequest(request.method, request.path, request.body),
            changes=changes,
            more=shown["more"],
            versions=queries.versions_of(tried.tried),
            outcome=tried.outcome,
            conversation_id=caller.conversation_id,
        )
    content = {
        "proposal_id": kept.id,
        "summary": summary,
        **({UNTRUSTED: {"title": title}} if title else {}),
        "next": f"Nothing is changed yet. Tell the person to approve or decline proposal {kept.id}.",
    }
    return ToolResult(_shown(content, changes, shown["more"]), proposal=kept)


def _shown(content: dict[str, Any], changes: list[dict[str, Any]], more: int) -> dict[str, Any]:
    """The content, and as many of the changes as fit."""
    rows = [
        {
            "type": each["resource_type"],
            "id": each["resource_id"],
            "action": each["action"],
            UNTRUSTED: {name: said for name, was in each["changes"].items() if (said := _difference(name, was))},
        }
        for each in changes
    ]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    shown = fitting_rows(rows, MOST_BYTES - size(content) - AROUND) if rows else []
    left = len(rows) - len(shown) + more
    return content | {"changes": shown} | ({"more_changes": left} if left else {})


def _difference(name: str, was: dict[str, Any]) -> dict[str, Any]:
    """What a model needs to tell of one field: nothing of what a new record has by itself."""
    if was["old"] is None and (name in STAMPED or was["new"] in NOTHING):
        return {}
    both = {"before": was["old"], "after": was["new"]}
    return {said: value for said, value in both.items() if value is not None}


def _with_ids(changes: list[dict[str, Any]], done: Answer) -> list[dict[str, Any]]:
    """The same with the id of what was made."""
    made = done.document().get("id")
    return [
        each | {"resource_id": made} if each["resource_id"] is None and place == 0 else each
        for place, each in enumerate(changes)
    ]


def _title(request: Request, result: Any, entries: Sequence[AuditEntry]) -> str | None:
    """What the records are called that it is about: as they would be, or as they were."""
    resource = queries.BY_KIND.get(request.kind)
    own = [entry for entry in entries if entry.resource_type == request.kind]
    by_id = {entry.resource_id: entry for entry in own}
    about = [by_id.get(each) for each in request.ids] if request.ids else own[:1]
    if resource is None:
        return None
    names: list[str] = []
    for place, entry in enumerate(about):
        known = {} if entry is None else (entry.old_values or {}) | (entry.new_values or {})
        if place == 0 and isinstance(result, dict):
            known |= result
        names.append(" ".join(" ".join(str(known[name]) for name in resource.title if known.get(name)).split()))
    first, others = "".join(names[:1]), ", ".join(filter(None, names[1:]))
    return (f"{others} → {first}" if others else first)[:LONGEST_TITLE] or None


def checked(arguments: Any) -> dict[str, Any]:
    """The arguments as a body would be read. Raises ToolError."""
    try:
        written = strict_json.encode({} if arguments is None else arguments)
        document = strict_json.decode(written) if len(written) <= MOST_ARGUMENT_BYTES else None
    except (ValueError, TypeError, RecursionError, UnicodeError) as error:
        raise ToolError(f"The arguments can't be read: {str(error)[:200]}.") from None
    if document is None:
        raise ToolError(f"The arguments are too large: {MOST_ARGUMENT_BYTES} bytes at most.")
    if not isinstance(document, dict):
        raise ToolError("The arguments must be a JSON object.")
    return document
