"""Handing mails over: to a mail server by SMTP, or outside production into a folder."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPRecipientRefused,
    SMTPResponseException,
)
from msgspec import Struct

from app.settings import Settings

CONNECT_SECONDS, COMMAND_SECONDS = 10.0, 30.0
PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
KEPT_ANSWER = 500
# Files that are kept in the folder.
MOST_FILES = 500
# What servers say of an address (RFC 3463): there is no such one, it has moved, it takes no mail. All else is about who
# sends, the mailbox's size, or the server itself: the address may be right.
ENHANCED = re.compile(r"5\.\d{1,3}\.\d{1,3}(?![.\d])")
ABOUT_ADDRESS = re.compile(r"5\.(1\.(0|1|2|3|6|10)|2\.1)$")
# Without such a number, these answers are about the address, unless the words say something else.
REFUSING = {550, 551, 553}
ABOUT_SENDER = re.compile(
    r"\b(helo|ehlo|relay|sender|from address|spam|spf|dkim|dmarc|dnsbl|rbl|policy|reputation|authenticat|tls|quota|ptr)"
    r"|\bfull\b|block|black|\blist(ed|ing)\b|banned|reverse dns",
    re.IGNORECASE,
)
MAILBOX_FULL = re.compile(r"5\.2\.2\b|mailbox( is)? full", re.IGNORECASE)
CLOSING, AUTHENTICATION_REQUIRED = 421, 530


class Ending(StrEnum):
    """What came of handing a mail over."""

    SENT = "sent"
    # Not now: another attempt may succeed.
    LATER = "later"
    # The server takes nothing for this address.
    REFUSED = "refused"
    # The server takes this mail from nobody.
    FAILED = "failed"
    # The connection was lost before the server said whether it has the mail.
    UNKNOWN = "unknown"


class Handed(Struct, frozen=True):
    """What came of handing a mail over, and in words why it was not taken."""

    ending: Ending
    answer: str | None = None


class ServerAwayError(Exception):
    """The mail server can't be used now; nothing was sent."""


class Transport(Protocol):
    """A way for mails to go."""

    async def open(self) -> None:
        """Be ready to send. Raises ServerAwayError."""

    async def send(self, content: bytes, sender: str, recipient: str) -> Handed:
        """Hand one mail over. Raises ServerAwayError where it was certainly not sent."""

    async def close(self) -> None:
        """Say goodbye, if anybody listens."""


class SmtpTransport:
    """One connection to the mail server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, password = unquote(parts.username or ""), unquote(parts.password or "")
        self._client = SMTP(
            hostname=parts.hostname,
            port=parts.port or PORTS[parts.scheme],
            username=login or None,
            password=password or None,
            use_tls=parts.scheme == "smtps",
            start_tls=parts.scheme == "smtp+starttls",
            timeout=COMMAND_SECONDS,
        )

    async def open(self) -> None:
        """Connect and log in, unless that is done. Raises ServerAwayError."""
        if self._client.is_connected:
            return
        try:
            await self._client.connect(timeout=CONNECT_SECONDS)
        except SMTPAuthenticationError as error:
            raise ServerAwayError(f"the mail server refused the login: {_words(error)}") from error
        except (SMTPException, OSError, ValueError) as error:
            raise ServerAwayError(_words(error)) from error

    async def send(self, content: bytes, sender: str, recipient: str) -> Handed:
        """Hand one mail over. Raises ServerAwayError where it was certainly not sent."""
        international = not recipient.isascii()
        options = ["SMTPUTF8", "BODY=8BITMIME"] if international else []
        encoding = "utf-8" if international else "ascii"
        try:
            if international and not await self._takes_every_letter():
                return Handed(Ending.FAILED, "The mail server takes no addresses with such letters")
            await self._client.mail(sender, options=options, encoding=encoding)
            await self._client.rcpt(recipient, encoding=encoding)
        except SMTPResponseException as error:
            await self._forget()
            if error.code == CLOSING or isinstance(error, SMTPHeloError):
                raise ServerAwayError(_words(error)) from error
            return Handed(Ending.REFUSED if _is_about_address(error) else Ending.LATER, _words(error))
        except (SMTPException, OSError) as error:
            self._client.close()
            raise ServerAwayError(_words(error)) from error
        try:
            await self._client.data(content)
        except SMTPDataError as error:
            await self._forget()
            later = error.code < 500 or error.code == AUTHENTICATION_REQUIRED or MAILBOX_FULL.search(error.message)
            return Handed(Ending.LATER if later else Ending.FAILED, _words(error))
        except (SMTPException, OSError) as error:
            self._client.close()
            return Handed(Ending.UNKNOWN, _words(error))
        return Handed(Ending.SENT)

    async def _takes_every_letter(self) -> bool:
        if self._client.is_ehlo_or_helo_needed:
            await self._client.ehlo()
        return self._client.supports_extension("smtputf8")

    async def _forget(self) -> None:
        """Begin anew on this connection, or leave it."""
        try:
            await self._client.rset()
        except (SMTPException, OSError):
            self._client.close()

    async def close(self) -> None:
        """Say goodbye, if anybody listens."""
        if self._client.is_connected:
            try:
                await self._client.quit(timeout=CONNECT_SECONDS)
            except (SMTPException, OSError):
                self._client.close()


class FolderTransport:
    """A folder that mails are kept in as files, to be looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        """There is nothing to open."""

    async def send(self, content: bytes, sender: str, recipient: str) -> Handed:  # noqa: ARG002 -- the protocol's
        """Keep the mail as a file. Raises ServerAwayError."""
        try:
            await asyncio.to_thread(self._write, content)
        except OSError as error:
            raise ServerAwayError(f"{self._folder} can't be written: {error.strerror}") from error
        return Handed(Ending.SENT)

    def _write(self, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{sha256(content).hexdigest()[:8]}.eml"
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").replace(path)
        for old in sorted(self._folder.glob("*.eml"))[:-MOST_FILES]:
            old.unlink(missing_ok=True)

    async def close(self) -> None:
        """There is nothing to close."""


def transport_of(settings: Settings) -> Transport:
    """The way that mails go with these settings."""
    return SmtpTransport(settings.smtp_url) if settings.smtp_url else FolderTransport(mail_folder(settings))


def mail_folder(settings: Settings) -> Path:
    """Where mails are kept that go nowhere."""
    return Path(settings.crm_data_dir) / "mail"


def _is_about_address(error: SMTPResponseException) -> bool:
    """Whether the server takes nothing for this address, whoever sends it."""
    if error.code < 500 or not isinstance(error, SMTPRecipientRefused):
        return False
    if (enhanced := ENHANCED.match(error.message)) is not None:
        return ABOUT_ADDRESS.match(enhanced.group()) is not None
    return error.code in REFUSING and ABOUT_SENDER.search(error.message) is None


def _words(error: BaseException) -> str:
    """What went wrong, to be logged and stored. A server's answer is text of anybody."""
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {' '.join(error.message.split())}"[:KEPT_ANSWER].replace("\0", "")
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
    return text[:KEPT_ANSWER]
