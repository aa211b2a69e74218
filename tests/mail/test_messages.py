"""Mails as they are written: what every program reads is what was meant."""

from __future__ import annotations

import email
import re
import uuid
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.locales import Locale
from app.mail.messages import Recipient, Written, compose
from app.mail.templates import Cell, Table, one_line, table_as_text
from app.mail.texts import TEXTS

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


def sent(subject: str, name: str | None = None, link: str | None = None) -> tuple[bytes, EmailMessage]:
    written = Written(subject=subject, text="Text\n", html="<p>Text</p>", locale="en", unsubscribe=link)
    message = compose(written, Recipient("ada@example.com", name), ("", "crm@example.com"), uuid.uuid4(), "t", AT)
    content = message.as_bytes()
    read = email.message_from_bytes(content, policy=default)
    assert isinstance(read, EmailMessage)
    return content, read


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)


@given(texts, texts)
@profile(max_examples=60)
def test_a_subject_and_a_name_come_as_they_are(subject: str, name: str) -> None:
    content, read = sent(subject, name)
    assert " ".join(str(read["Subject"]).split()) == " ".join(one_line(subject).split())
    # The newer parser puts blanks between the parts of a long name.
    shown, address = parseaddr(str(email.message_from_bytes(content)["To"]))
    assert " ".join(str(make_header(decode_header(shown))).split()) == " ".join(one_line(name).split())
    assert address == read["To"].addresses[0].addr_spec == "ada@example.com"
    assert content.isascii()
    assert not re.search(rb"=\?[^?]*\?.\?\?=", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("word", ["=?utf-8?q?x=0d=0aReply-To:_evil@y.co=0d=0aPay?=", "=?utf-8?b?AA==?=", "=?x?q?y?="])
def test_what_looks_encoded_is_shown_as_it_was_typed(word: str) -> None:
    content, read = sent(word, word)
    assert read["Reply-To"] is None
    assert str(make_header(decode_header(email.message_from_bytes(content)["Subject"]))) == word
    assert str(make_header(decode_header(parseaddr(str(email.message_from_bytes(content)["To"]))[0]))) == word


def test_a_long_link_stays_in_one_piece() -> None:
    link = f"https://crm.example.com/public/unsubscribe/{'a' * 400}.{'0' * 64}"
    content, _ = sent("A subject", link=link)
    assert f"\r\nList-Unsubscribe: <{link}>\r\n".encode() in content


def test_every_sentence_is_there_in_every_language_with_the_same_values() -> None:
    for key, sentences in TEXTS.items():
        assert set(sentences) == set(Locale), key
        assert len({frozenset(re.findall(r"{\w+}", text)) for text in sentences.values()}) == 1, key


@pytest.mark.parametrize("locale", Locale)
def test_a_table_of_text_fits_into_a_terminal_or_is_a_list(locale: Locale) -> None:
    narrow = Table(None, ["Name", "Value"], [[Cell("Ada", is_number=False), Cell("1,000")]], 1)
    shown = table_as_text(narrow, locale)
    if locale is Locale.ARABIC:
        assert shown == "\u2068Ada\u2069\n  Value: 1,000"
    else:
        assert shown == "Name  Value\n----  -----\nAda   1,000"
    wide = Table(None, ["Name", "Value"], [[Cell("1" * 80, is_number=False), Cell("1,000")]], 1)
    assert table_as_text(wide, locale) == f"{'1' * 80}\n  Value: 1,000"
