"""How a batch works: each of its requests goes through the app's own routes, in the batch's transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from app.access.permissions import ONLY
from app.admin.batch.schemas import PATH, WRITING, BatchRequest
from app.admin.inside import Sender
from app.records.resources import RESOURCES, WEBHOOKS
from app.records.transaction import Transaction
from app.web.errors import AppError, Fault, Faults
from app.web.input import CrmRequest

REFERENCE = re.compile(r"\{\{([0-9]{1,10})\.(\w{1,100})\}\}")
ADDRESS = re.compile(PATH)
# To change these asks the network, or shows a secret.
_ALONE = (WEBHOOKS,)
_KIND = "|".join(str(each.table.name).replace("_", "-") for each in RESOURCES if each not in _ALONE)
_ID = r"\{\w+_id(:str)?\}"
# What a batch may do, by method and the route's template.
ALLOWED = re.compile(
    rf"POST /admin/({_KIND})(/{_ID}/(contacts|notes|tasks|tags|tags/{_ID}|reassign|restore))?"
    rf"|(PUT|PATCH|DELETE) /admin/({_KIND})/({_ID}(/tags|/tags/{_ID})?|order)"
)


def _only_changes_of_records(scope: Any) -> None:
    """Raise AppError where the route is not for batches."""
    if not ALLOWED.fullmatch(f"{scope['method']} {scope['path_template']}"):
        message = "can't be in a batch: a batch creates, changes, trashes and restores records"
        raise Faults(Fault("path", message)).error()


async def run(request: CrmRequest, tx: Transaction, requests: list[BatchRequest]) -> list[msgspec.Raw]:
    """The answers to all requests. Raises AppError as the first one that is refused, with its index."""
    referred = _check(requests)
    sender = Sender(app=request.app, actor=request.user, request_id=request.scope["state"]["request_id"])
    ids: dict[int, Any] = {}
    answers: list[msgspec.Raw] = []
    for index, each in enumerate(requests):
        faults = Faults()
        path = "/".join(str(_resolved(part, ids, faults, "path")) for part in each.path.split("/"))
        body = _resolved(each.body, ids, faults, "body")
        if faults:
            raise _at(index, faults.error())
        headers = {} if each.if_match is None else {"If-Match": each.if_match}
        answer = await sender.send(
            each.method, path, body=body, headers=headers, outer=tx, state={ONLY: _only_changes_of_records}
        )
        if answer.refused:
            raise _at(index, answer.refusal())
        if index in referred:
            ids[index] = _id_in(answer.body)
        answers.append(msgspec.Raw(answer.body))
    return answers


# ── references ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _check(requests: list[BatchRequest]) -> set[int]:
    """Which answers are referred to. Raises AppError for the first request that can't be sent."""
    referred: set[int] = set()
    for index, each in enumerate(requests):
        faults = Faults()
        if each.method not in WRITING:
            faults.append(Fault("method", f"must be one of {', '.join(WRITING)}"))
        for place, text in [*(("path", part) for part in each.path.split("/")), *_texts(each.body, "body")]:
            if reference := REFERENCE.fullmatch(text):
                number = int(reference[1])
                if reference[2] != "id":
                    faults.append(Fault(place, f"{text}: only the id of an answer can be referred to"))
                elif number >= index:
                    faults.append(Fault(place, f"{text}: only an earlier request can be referred to, from 0 on"))
                referred.add(number)
        if not faults and not ADDRESS.fullmatch(each.path):
            faults.append(Fault("path", "must be an address under /admin, without a query"))
        if faults:
            raise _at(index, faults.error())
    return referred


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, and where they are."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{place}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{place}[{number}]")


def _resolved(value: Any, ids: dict[int, Any], faults: Faults, place: str) -> Any:
    """The value with ids in place of references."""
    if isinstance(value, dict):
        return {name: _resolved(item, ids, faults, f"{place}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, ids, faults, f"{place}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, str) and (reference := REFERENCE.fullmatch(value)):
        found = ids[int(reference[1])]
        if found is None:
            faults.append(Fault(place, f"{value}: the answer of that request has no id"))
        return found
    return value


def _id_in(body: bytes) -> Any:
    document = msgspec.json.decode(body)
    return document.get("id") if isinstance(document, dict) else None


def _at(index: int, refusal: AppError) -> AppError:
    """The refusal of one request as that of the batch."""
    data = refusal.data if isinstance(refusal.data, dict) else {}
    return AppError(
        refusal.code,
        refusal.message,
        data=data | {"index": index},
        status=refusal.status,
        headers=refusal.headers,
    )
