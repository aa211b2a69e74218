"""Creating customers through the service, and by the same SQL."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from tests.bench.load import recorded, wrk
from tests.bench.server import CREATED, Bench

PATH = "/admin/customers"
BODY = '{{"name":"Ada Lovelace","email":"{email}","company":"Engines"}}'
# A request's body must differ each time, since emails are unique.
LUA = """
local headers = {{["Content-Type"] = "application/json", ["Authorization"] = "Bearer {token}",
    ["Dry-Run"] = "{dry_run}"}}
local file, number = os.tmpname(), 0
os.remove(file)
local run = string.match(file, "%w+$")
request = function()
  number = number + 1
  return wrk.format("POST", "{path}", headers, string.format('{body}', run .. number))
end
"""


def through_service(bench: Bench, *, connections: int, seconds: float, dry_run: bool = False) -> float:
    """Customers a second, each validated, audited, counted and answered; or only tried."""
    body = BODY.format(email=f"{uuid.uuid4().hex[:8]}.%s@example.com")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        tried = "true" if dry_run else "false"
        script.write(LUA.format(path=PATH, body=body, token=bench.token(CREATED), dry_run=tried))
        script.flush()
        return wrk(bench, PATH, CREATED, connections=connections, seconds=seconds, script=Path(script.name)).rate


def statements(bench: Bench) -> list[str]:
    """What a POST sends to the database, for a new email each time."""
    email = f"{uuid.uuid4()}@example.com"
    with recorded(bench, CREATED) as (client, sent):
        body = BODY.format(email=email)
        answer = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, answer.text
        assert any(f"'{email}'" in statement for statement in sent), sent
        return [statement.replace(f"'{email}'", "(md5(random()::text) || '@example.com')") for statement in sent]
