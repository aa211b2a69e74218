"""Batches as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from app.web.structs import Body

MOST_REQUESTS = 100
WRITING = ("POST", "PUT", "PATCH", "DELETE")
PATH = r"/admin(/([A-Za-z0-9_-]+|\{\{[0-9]{1,2}\.id\}\}))+"


class BatchRequest(Struct, forbid_unknown_fields=True):
    """A request that creates, changes, trashes or restores a record.

    `{{0.id}}`, as a part of the path between slashes or as a whole value in the body, is the id in the answer of the
    first request, `{{1.id}}` that of the second, and so on.
    """

    # Its form is checked when it is known which request it is of.
    method: Annotated[str, Meta(max_length=10, extra_json_schema={"enum": WRITING})]
    path: Annotated[
        str,
        Meta(max_length=300, examples=["/admin/customers/12"], extra_json_schema={"pattern": f"^{PATH}$"}),
    ]
    body: dict[str, Any] | None = None
    if_match: (
        Annotated[
            str,
            Meta(max_length=1000, pattern=r"^[\x20-\x7e]*$", description="As the header If-Match", examples=['"3"']),
        ]
        | None
    ) = None


class Batch(Body, kw_only=True):
    """Requests that are done in this order, all or none."""

    requests: Annotated[list[BatchRequest], Meta(min_length=1, max_length=MOST_REQUESTS)]


class BatchAnswers(Struct):
    """What each request answers, in the order of the requests."""

    data: list[Any]
