"""Calling tools for a person, as the doors do it."""

from __future__ import annotations

import json
from typing import Any

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.tools.calling import call
from app.admin.tools.tool import Caller as ToolCaller
from app.admin.tools.tool import Mode, ToolResult
from tests.callers import Caller


def has_no_nulls(content: Any) -> bool:
    """Whether nothing is null but the cursor of a last page."""
    if isinstance(content, dict):
        return all(name == "next_cursor" or has_no_nulls(value) for name, value in content.items())
    return all(map(has_no_nulls, content)) if isinstance(content, list) else content is not None


class Tools:
    """The tools of one person."""

    def __init__(self, caller: Caller, role: str, mode: Mode = "propose") -> None:
        self.person = caller
        self.mode: Mode = mode
        self.actor = Actor(
            user_id=caller.user_id, tenant_id=caller.tenant, role=Role(role), token_role=Role(role), name="Some Body"
        )

    def result(self, name: str, /, **arguments: Any) -> ToolResult:
        """What the tool answers, in any case."""
        client = self.person.client
        caller = ToolCaller(app=client.app, actor=self.actor, request_id="by-a-tool", via="mcp", mode=self.mode)
        answered: ToolResult = client.blocking_portal.call(call, caller, name, arguments)
        assert len(answered.text.encode()) <= 8192, f"{name} answers {len(answered.text.encode())} bytes"
        assert has_no_nulls(answered.content), answered.text
        return answered

    def ok(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """What it answers, which must be no error."""
        answered = self.result(name, **arguments)
        assert not answered.is_error, f"{name}: {answered.text}"
        content: dict[str, Any] = json.loads(answered.text)
        return content

    def refused(self, name: str, /, **arguments: Any) -> str:
        """The sentence that says what is wrong."""
        answered = self.result(name, **arguments)
        assert answered.is_error, f"{name}: {answered.text}"
        assert answered.proposal is None
        return str(answered.content["error"])

    def approved(self, name: str, /, **arguments: Any) -> Any:
        """What comes of it once its proposal is approved."""
        proposal = self.ok(name, **arguments)["proposal_id"]
        return self.person.ok("POST", f"/admin/proposals/{proposal}/approve")["result"]
