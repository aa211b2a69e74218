"""What Schemathesis can't know: why a request that fits the document may still be refused."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

# Codes of refusals that depend on what is stored, or on several fields together.
REASONS = set(
    """
    INVALID_CURSOR CUSTOMER_NOT_FOUND CONTACT_NOT_FOUND DEAL_NOT_FOUND ACTIVITY_NOT_FOUND TAG_NOT_FOUND INVALID_STAGE
    INVALID_EMAIL INVALID_CURRENCY MISSING_LINK AUDIT_NOT_FOUND DUE_DATE_IN_PAST WON_NEEDS_AMOUNT EMPTY_FILE NO_UPDATES
    TOO_MANY_RECORDS WEBHOOK_URL_REFUSED MEMBER_NOT_FOUND PROJECT_NOT_FOUND ASSISTANT_REFUSED
    """.split()
)
# The same for refusals with a general code.
WORDS = re.compile(
    "|".join(
        (
            "does not go together with cursor",
            "must be the customer that the contact belongs to",
            "must be the one in the path",
            "must be the name of the (customer|contact) as it is shown",
            "is overdue by its due date",
            "must hold the id of each",
            "differs from another field that means the same",
            "can't be in the future",
            "a contact has a first or a last name",
            "is only of a deal that is (closed|lost)",
            "is only of a project that is completed",
            "must not begin and end at the same time",
            "must not be before from",
            "is too far from",
            "must be an address that begins with",
            "is not a valid address",
            "must be an ISO 4217 code",
            "must be an IANA time zone",
            "must be an ISO 3166 code",
            "either by ids or by filter",
            "must not be empty",
            "must have at most 1000 values",
            "what is not in the trash can't be restored",
            "NUL",
            "contains a number that is too long",
            # No pattern can say which characters are visible.
            "must have at least one visible character",
            # A blank text counts as left out.
            "is required$",
            # The console's one name is two fields.
            "must have first and last names of at most",
            # For a schema, 1e3 in a query is a number.
            "must be a number$",
            # For a schema, 1.0 is an integer.
            "must be an integer( or text)?( or null)?(, not a number|$)",
            # Which filters a report has, and who has an address, the document can't say.
            "is not a filter of the report",
            "is required for every (week|month)",
            "is for every (week|month) only",
            "nobody of your organization has the address",
            # It can't say what is shown of a key that is kept.
            "is a part of a key, as it is shown",
            "must be given again: it is not sent to another address",
            "is required (with|for) ",
            "makes no sense with auth",
            "is no tool of this server",
            # The document can't say which patterns match a type.
            "must be a type of events",
        )
    )
)


@schemathesis.check
def refused_for_a_reason(ctx: Any, response: Any, case: Any) -> None:  # noqa: ARG001 -- the library's signature
    """A request that fits the document is refused with 400 only for what no schema can say."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    body = response.json()
    data = body["data"] or {}
    if "index" in data:  # a request in a batch: what fits there, the document says at its own address
        return
    faults = data.get("fields", ())
    foreseen = body["code"] in REASONS or all(WORDS.search(fault["message"]) for fault in faults)
    assert foreseen, f"it fits the document: {body['message']}"
