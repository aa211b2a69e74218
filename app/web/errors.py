"""The errors that clients see: their codes, statuses and bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Code(Enum):
    """Every code of docs/api.md#all-codes, with its usual status and message."""

    status: int
    message: str

    def __new__(cls, status: int, message: str) -> Code:  # noqa: D102 -- called by Enum only
        code = object.__new__(cls)
        code._value_ = len(cls.__members__)
        code.status = status
        code.message = message
        return code

    INVALID_REQUEST = 400, "The request is not valid"
    INVALID_ID = 400, "The id in the path must be a positive integer"
    INVALID_EMAIL = 400, "The email address is not valid"
    INVALID_CURRENCY = 400, "The currency is not an ISO 4217 code"
    INVALID_TIMEZONE = 400, "The database does not know this time zone: choose another one"
    INVALID_STAGE = 400, "Your pipeline has no active stage of this name"
    MISSING_LINK = 400, "A note must belong to a customer, a deal, an activity or a project"
    DUE_DATE_IN_PAST = 400, "A task can't be due in the past"
    WON_NEEDS_AMOUNT = 400, "A won deal needs an amount above 0"
    WEBHOOK_URL_REFUSED = 400, "This service does not call this address"
    ASSISTANT_REFUSED = 400, "The assistant's provider does not accept these settings"
    CALENDAR_REFUSED = 400, "The calendar can't be connected"
    INVALID_STATE = 400, "This is not the consent that you have begun: begin again"
    DRY_RUN_UNSUPPORTED = 400, "This can't be tried with Dry-Run: send the request without this header to do it"
    TOO_MANY_RECORDS = 400, "These are too many records for one request: do it in parts"
    EMPTY_FILE = 400, "The file is empty"
    AMBIGUOUS_DATES = 400, "Is 03/04 in March or in April? Say with date_order what comes first: ymd, dmy or mdy"
    NO_UPDATES = 400, "There is nothing to change: send at least one writable field"
    INVALID_LINK = 400, "This link was used before, is too old, or is not for you: ask for a new one"
    INVALID_CURSOR = 400, "The cursor is not valid here: start again without one"
    ORGANIZATION_REQUIRED = 400, "This token works in several organizations: name one in the header X-Organization-Id"
    MISSING_TOKEN = 401, "A bearer token is required: send the header Authorization: Bearer <token>"
    INVALID_TOKEN_FORMAT = 401, "The Authorization header must be of the form: Bearer <token>"
    INVALID_TOKEN = 401, "The token is not valid: log in again"
    TOKEN_REVOKED = 401, "You were signed out: log in again"
    TOKEN_REUSED = 401, "This refresh token was used before, so its session has ended: log in again"
    INVALID_CREDENTIALS = 401, "The email address or the password is wrong"
    INVALID_ISSUER = 401, "The token's issuer is not accepted here"
    MISSING_ROLE = 401, "The token has no role"
    MISSING_TENANT = 401, "The token has no organization (tenant_id)"
    INSUFFICIENT_PERMISSIONS = 403, "Your role does not allow this"
    MEMBER_INACTIVE = 403, "An admin of this organization has deactivated your membership: ask one of them"
    STAGE_ROLLBACK_FORBIDDEN = 403, "Your role may not move a deal backward or reopen a closed one"
    ORGANIZATION_FORBIDDEN = 403, "The token does not work in this organization"
    REGISTRATION_CLOSED = 403, "Nobody can register here without an invitation"
    ORIGIN_NOT_ALLOWED = 403, "Pages of this origin may not call this service"
    NOT_FOUND = 404, "There is nothing at this address"
    CUSTOMER_NOT_FOUND = 404, "There is no such customer"
    CONTACT_NOT_FOUND = 404, "There is no such contact"
    DEAL_NOT_FOUND = 404, "There is no such deal"
    PROJECT_NOT_FOUND = 404, "There is no such project"
    ACTIVITY_NOT_FOUND = 404, "There is no such activity"
    NOTE_NOT_FOUND = 404, "There is no such note"
    STAGE_NOT_FOUND = 404, "There is no such pipeline stage"
    TAG_NOT_FOUND = 404, "There is no such tag"
    REPORT_SCHEDULE_NOT_FOUND = 404, "There is no such report schedule"
    MEMBER_NOT_FOUND = 404, "There is no such member"
    ORGANIZATION_NOT_FOUND = 404, "There is no such organization of yours"
    SESSION_NOT_FOUND = 404, "There is no such session of yours"
    AUDIT_NOT_FOUND = 404, "There is no such audit entry"
    METHOD_NOT_ALLOWED = 405, "This address does not accept this method"
    ATTACHMENT_NOT_FOUND = 404, "There is no such attachment"
    JOB_NOT_FOUND = 404, "There is no such job"
    IMPORT_NOT_FOUND = 404, "There is no such import"
    MCP_SERVER_NOT_FOUND = 404, "There is no such MCP server"
    WEBHOOK_NOT_FOUND = 404, "There is no such webhook"
    DELIVERY_NOT_FOUND = 404, "There is no such delivery"
    FEED_NOT_FOUND = 404, "There is no such calendar feed"
    CONNECTION_NOT_FOUND = 404, "There is no such connected calendar"
    NOT_CONFIGURED = 404, "The operator of this service has not set this up"
    ACCESS_TOKEN_NOT_FOUND = 404, "There is no such access token"
    NOTIFICATION_NOT_FOUND = 404, "There is no such notification"
    CONVERSATION_NOT_FOUND = 404, "There is no such conversation"
    OPERATION_NOT_FOUND = 404, "There is no such operation"
    PROPOSAL_NOT_FOUND = 404, "There is no such proposal of yours"
    PROPOSAL_DECIDED = 409, "It was approved or declined already"
    PROPOSAL_EXPIRED = 409, "It waited for more than 15 minutes: ask for it again"
    PROPOSAL_OUTDATED = 409, "What it would change was changed since: ask for it again"
    CHANGED_SINCE = 409, "This was changed again since: what somebody else changed is not overwritten"
    UNDO_EXPIRED = 409, "It is too long ago to be taken back"
    HISTORY_CUT = 410, "The history does not reach back so far"
    EMAIL_EXISTS = 409, "A customer with this email already exists"
    EXTERNAL_ID_EXISTS = 409, "Another record of this type has this external_id already"
    TAG_EXISTS = 409, "A tag with this name already exists"
    STAGE_EXISTS = 409, "A pipeline stage with this name already exists"
    STAGE_IN_USE = 409, "Deals are, or were, in this stage: make it inactive instead"
    LAST_STAGE_OF_KIND = 409, "At least one open, one won and one lost stage must stay active"
    LAST_ADMIN = 409, "Somebody has to stay admin: you can't narrow or deactivate yourself, nor the last admin"
    OWNER_STAYS = 409, "The owner of an organization can't be removed"
    MEMBER_EXISTS = 409, "This person is a member already"
    MEMBER_SEEN = 409, "This person was here, and history names them: deactivate the member instead"
    QUOTA_EXCEEDED = 409, "The organization has as much as it may: delete something, or ask the operator"
    LIMIT_REACHED = 409, "There can't be more of them: delete one first"
    DIFFERENT_CUSTOMERS = 409, "Deals or activities of another customer name this contact: merge the customers first"
    OPEN_TASKS = 409, "Tasks of this project are open: complete them first, or with it by complete_tasks"
    CONTACT_HAS_DEALS = 409, "Deals refer to this contact: change or delete them first"
    PARENT_DELETED = 409, "The record that it belongs to is in the trash: restore that one first"
    COUNT_CHANGED = 409, "Another number of records matches than you expected: nothing was done"
    BULK_REFUSED = 409, "Some of the records can't be changed, so nothing was done: see data.refused, or allow partial"
    IMPORT_NOT_CHECKED = 409, "Its rows are not checked yet: PUT its plan, and wait for that job"
    IMPORT_HAS_ERRORS = 409, "Some rows are wrong: mend them, or let them be left out with on_error: skip"
    IMPORT_STOPPED = 409, "A row could not be stored, so what was done is taken back"
    PLAN_OUTDATED = 409, "Records that it would change were changed since the check: check again, or accept_changes"
    IMPORT_BUSY = 409, "It is being checked or run at the moment: wait for its job, or cancel it first"
    JOB_FINISHED = 409, "The job is finished already"
    ASSISTANT_BUSY = 409, "The assistant is answering in this conversation: wait for the answer, or cancel it"
    ASSISTANT_NOT_CONFIGURED = 409, "The assistant has no model: an admin chooses one under /admin/assistant/settings"
    NOTHING_TO_CONFIRM = 409, "Nothing waits for your answer here"
    MCP_SERVER_EXISTS = 409, "There is an MCP server of this name already"
    WEBHOOK_INACTIVE = 409, "This webhook is switched off: switch it on first"
    NOT_DELETED = 409, "The record is not in the trash"
    ON_HOLD = 409, "The customer is on hold: nothing of it is deleted or moved away until an admin takes it off hold"
    UPLOAD_INCOMPLETE = 409, "The upload is not complete: PUT the whole file to its upload_url first"
    REQUEST_TIMEOUT = 408, "The body did not arrive in time: send the request again"
    REQUEST_IN_PROGRESS = 409, "A request with this idempotency key is still running: try again in a moment"
    LINK_EXPIRED = 410, "This link was valid for some minutes: read again what had it for a new one"
    ANSWER_ERASED = 410, "This request was done before, and what it answered was erased since"
    MERGED = 410, "This record was merged into another one: use that one"
    VERSION_CONFLICT = 412, "Somebody else changed the record: read it again before you change it"
    PAYLOAD_TOO_LARGE = 413, "The request body is too large"
    UNSUPPORTED_MEDIA_TYPE = 415, "The body must be JSON: send it as Content-Type: application/json, not compressed"
    RANGE_NOT_SATISFIABLE = 416, "The file ends before the range begins"
    IDEMPOTENCY_KEY_REUSED = 422, "This idempotency key was used for another request: make a new key"
    ASSISTANT_BUDGET_USED = 429, "The assistant's tokens of this month are used up"
    RATE_LIMITED = 429, "Too many requests: try again after the number of seconds in Retry-After"
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431, "The request's headers are too large"
    INTERNAL_ERROR = 500, "Something went wrong in the service; its log has the reason under this request's id"
    SERVICE_UNAVAILABLE = 503, "The service can't answer at the moment: try again soon"


# Limits, so that a small request with many faults does not get a huge answer.
MAX_ERROR_BYTES = 64 * 1024
MAX_FIELDS_BYTES = 48 * 1024
MAX_MESSAGE_LENGTH = 1000
MAX_FAULTS = 100
MAX_FIELD_NAME_LENGTH = 100
MAX_FAULT_MESSAGE_LENGTH = 500


class ErrorBody(msgspec.Struct):
    """The body of every answer of 400 and above."""

    code: str
    message: str
    data: Any = None


class AppError(Exception):
    """An error that a client is told about. `status` is given if it differs from the code's usual one: an unknown id is
    404 in a path and 400 in a body.
    """

    def __init__(
        self,
        code: Code,
        message: str | None = None,
        *,
        data: Any = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or code.message)
        self.code = code
        self.message = message or code.message
        self.data = data
        self.status = status or code.status
        self.headers = dict(headers or {})
        if self.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")
        if self.status == 503:
            self.headers.setdefault("Retry-After", "1")

    def body(self) -> bytes:
        """The encoded body, without details if these are too large."""
        body = msgspec.json.encode(ErrorBody(self.code.name, self.message, self.data))
        if len(body) <= MAX_ERROR_BYTES:
            return body
        return msgspec.json.encode(ErrorBody(self.code.name, self.message[:MAX_MESSAGE_LENGTH]))


def fitting(details: Sequence[T]) -> Sequence[T]:
    """As many of the first details as an error shows."""
    shown = details[:MAX_FAULTS]
    while len(msgspec.json.encode(shown)) > MAX_FIELDS_BYTES:
        shown = shown[: len(shown) // 2]
    return shown


class Fault(msgspec.Struct, frozen=True):
    """One wrong field. `code` takes the place of INVALID_REQUEST if this is the only fault."""

    field: str
    message: str
    code: Code | None = None


class Faults:
    """All wrong fields of a request: the first hundred, and the number of the others."""

    def __init__(self, *faults: Fault) -> None:
        self._first: list[Fault] = []
        self._count = 0
        for fault in faults:
            self.append(fault)

    def __len__(self) -> int:
        return self._count

    def append(self, fault: Fault) -> None:
        """Add a fault."""
        self._count += 1
        if self._count <= MAX_FAULTS:
            self._first.append(
                Fault(fault.field[:MAX_FIELD_NAME_LENGTH], fault.message[:MAX_FAULT_MESSAGE_LENGTH], fault.code)
            )

    def name(self, field: str) -> bool:
        """Whether one of the first hundred is about this field."""
        return any(fault.field == field for fault in self._first)

    def error(self) -> AppError:
        """One error for all faults."""
        first = self._first
        code = first[0].code if self._count == 1 and first[0].code else Code.INVALID_REQUEST
        message = "; ".join(f"{fault.field} {fault.message}" for fault in first[:5])
        shown = fitting([{"field": fault.field, "message": fault.message} for fault in first])
        more = self._count - len(shown)
        return AppError(code, message, data={"fields": shown} | ({"more": more} if more else {}), status=400)


def invalid(*faults: Fault) -> AppError:
    """One error for these wrong fields."""
    return Faults(*faults).error()


def bad_field(code: Code, field: str, message: str | None = None) -> AppError:
    """One field of a body with a valid form and a wrong value, such as a reference to an unknown record."""
    return AppError(code, message, data={"fields": [{"field": field, "message": message or code.message}]}, status=400)
