"""Mails as they are sent: headers, text, HTML and a file."""

from __future__ import annotations

import hashlib
from datetime import datetime
from email.header import Header
from email.headerregistry import Address, AddressHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, formataddr
from typing import Any
from uuid import UUID

from msgspec import Struct

from app.mail.templates import one_line
from app.web.email import ascii_address


class _Policy(EmailPolicy):
    """Folds headers as every program reads them. The library's own way breaks links, and encodes empty words."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        # The library would decode what looks encoded, line breaks included: a subject is what it says.
        return (name, value) if name.lower() == "subject" else super().header_store_parse(name, value)

    def fold(self, name: str, value: str) -> str:
        shown = str(value)
        if name.lower() == "subject":
            shown = _encoded(shown)
        elif isinstance(value, AddressHeader):
            shown = ", ".join(_as_header(each) for each in value.addresses)
        return f"{name}: {shown}{self.linesep}"

    def fold_binary(self, name: str, value: str) -> bytes:
        return self.fold(name, value).encode()


def _as_header(address: Address) -> str:
    name, specification = address.display_name, address.addr_spec
    if not name:
        return specification
    return formataddr((name, specification)) if _is_plain(name) else f"{_encoded(name)} <{specification}>"


def _is_plain(text: str) -> bool:
    """Whether programs show it as it stands."""
    return text.isascii() and "=?" not in text


def _encoded(text: str) -> str:
    """Text of any length and script, in lines that are short enough."""
    charset = "us-ascii" if _is_plain(text) else "utf-8"
    return Header(text, charset, LINE, header_name="Subject").encode(linesep="\r\n")


# Everything is sent in 7 bits, which every server takes.
POLICY = _Policy(linesep="\r\n", cte_type="7bit")
LINE = 76
# With a name before the @ that is not ASCII, only to servers that say they take it.
INTERNATIONAL_POLICY = POLICY.clone(utf8=True)


class Attached(Struct, frozen=True):
    """A file with a mail."""

    name: str
    content_type: str
    content: bytes


class Written(Struct, frozen=True, kw_only=True):
    """What a mail says, in both forms, and how somebody can stop such mails."""

    subject: str
    text: str
    html: str
    locale: str
    # A link that stops such mails, if this service has public addresses.
    unsubscribe: str | None = None
    # What it is about, such as ("deal", 12): mails of one record are one thread.
    record: tuple[str, int] | None = None
    file: Attached | None = None


class Recipient(Struct, frozen=True):
    """Who gets it."""

    address: str
    name: str | None = None


def compose(
    written: Written, recipient: Recipient, sender: tuple[str, str], message_id: UUID, tenant: str, at: datetime
) -> EmailMessage:
    """The mail. Raises ValueError for an address that no mail can go to."""
    to = ascii_address(recipient.address)
    message = EmailMessage(policy=POLICY if to.isascii() else INTERNATIONAL_POLICY)
    domain = sender[1].rpartition("@")[2]
    message["From"] = _address(sender[1], sender[0])
    message["To"] = _address(to, recipient.name or "")
    message["Subject"] = one_line(written.subject)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{message_id}@{domain}>"
    if written.record is not None:
        # No mail has this id: programs show all that answer it as one thread.
        digest = hashlib.sha256(f"{tenant}\0{written.record[0]}\0{written.record[1]}".encode()).hexdigest()[:32]
        message["In-Reply-To"] = message["References"] = f"<{written.record[0]}.{digest}@{domain}>"
    if written.unsubscribe is not None:
        message["List-Unsubscribe"] = f"<{written.unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    # So that nobody's holiday notice answers it.
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = written.locale
    message.set_content(written.text, charset="utf-8")
    message.add_alternative(written.html, subtype="html", charset="utf-8")
    if written.file is not None:
        main, _, sub = written.file.content_type.partition("/")
        message.add_attachment(written.file.content, maintype=main, subtype=sub, filename=written.file.name)
    return message


def _address(address: str, name: str) -> Address:
    username, _, domain = address.rpartition("@")
    return Address(one_line(name), username, domain)
