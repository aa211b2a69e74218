"""What the database takes for alike: the same on every server, and as Unicode has it."""

from __future__ import annotations

import random
import sys
import unicodedata

import psycopg
import pytest

from app.web.email import fold_email
from tests.callers import Caller, refused

EVERY = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]


def folded(connection: psycopg.Connection, function: str, texts: list[str]) -> list[str]:
    query = f"SELECT {function}(x) FROM unnest(%s::text[]) WITH ORDINALITY AS u (x, n) ORDER BY n"
    return [row[0] for row in connection.execute(query.encode(), [texts])]


def in_python(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


@pytest.mark.slow
def test_every_code_point_is_folded_as_unicode_does(service_connection: psycopg.Connection) -> None:
    wrong = [
        (ascii(letter), key)
        for letter, key in zip(EVERY, folded(service_connection, "crm_fold", EVERY), strict=True)
        if key != in_python(letter)
    ]
    # A later Unicode may know more: its letters need a migration (migrations/case_folding.txt).
    assert wrong == [] or unicodedata.unidata_version > "15.1"


def test_composition_makes_no_difference(service_connection: psycopg.Connection) -> None:
    letters = [each for each in EVERY if each.casefold() != each or unicodedata.decomposition(each)]
    chance = random.Random(1)
    texts = ["".join(chance.choices(letters, k=chance.randrange(1, 6))) for _ in range(5000)]
    for function in ("crm_fold", "crm_fold_email", "crm_fold_search"):
        keys = folded(service_connection, function, texts)
        assert keys == folded(service_connection, function, [unicodedata.normalize("NFD", text) for text in texts])
        assert keys == folded(service_connection, function, keys)


def test_punycode_is_read_as_python_does(service_connection: psycopg.Connection) -> None:
    chance = random.Random(1)
    labels = ["".join(chance.choices("abcö漢ßд09é😀", k=chance.randrange(1, 12))) for _ in range(2000)]
    labels = [label for label in labels if not label.isascii()]
    coded = [f"xn--{label.encode('punycode').decode()}" for label in labels]
    assert folded(service_connection, "crm_decode_punycode", coded) == labels
    junk = [
        "xn--",
        "xn---",
        "xn--a",
        "xn--99999999",
        "xn--zzzzzzzzzzzzzzzzzzzz",
        "xn--" + "9" * 60,
        "xn--ls8h" * 20,
        "xn--é",
    ]
    for label, read in zip(junk, folded(service_connection, "crm_decode_punycode", junk), strict=True):
        assert read == label or f"xn--{read.encode('punycode').decode()}" == label


ALIKE_EMAILS = [
    ("ada@müller.de", "ADA@xn--mller-kva.de"),
    ("ada@mu\u0308ller.de", "ada@müller.de"),
    ("ö@example.com", "Ö@Example.com"),
    ("ada@straße.de", "ada@strasse.de"),
    ("σς@example.com", "ΣΣ@example.com"),
]


def test_workers_fold_emails_as_the_database_does(service_connection: psycopg.Connection) -> None:
    """Who is expected under an email is known before anybody asks the database."""
    chance = random.Random(1)
    letters = [each for each in EVERY if each.casefold() != each or unicodedata.decomposition(each)]
    texts = ["".join(chance.choices([*letters, *"abß.ςΣ@"], k=chance.randrange(1, 12))) for _ in range(5000)]
    emails = [email for pair in ALIKE_EMAILS for email in pair] + [f"{letter}@{letter}.de" for letter in letters]
    emails += [*texts, "a@b@xn--mller-kva.de", "a@xn--99999999.de", "a@xn--mller-kva。xn--a", "xn--a@b", "A@xn--.de"]
    keys = folded(service_connection, "crm_fold_email", emails)
    wrong = [(ascii(email), key) for email, key in zip(emails, keys, strict=True) if fold_email(email) != key]
    assert wrong == [] or unicodedata.unidata_version > "15.1"


@pytest.mark.parametrize(("one", "other"), ALIKE_EMAILS)
def test_emails_that_are_alike_are_one(one: str, other: str, admin: Caller) -> None:
    ada = admin.customer("Ada", email=one)
    assert ada["email"] == unicodedata.normalize("NFC", one)
    for address in (one, other):
        data = refused(admin.post("/admin/customers", {"name": "Bob", "email": address}), 409, "EMAIL_EXISTS")
        assert data["customer_id"] == ada["id"]


def test_a_local_part_is_folded_simply(admin: Caller) -> None:
    admin.customer("Ada", email="straße@example.com")
    admin.customer("Bob", email="strasse@example.com")
    refused(admin.post("/admin/customers", {"name": "Cleo", "email": "STRA\u1e9eE@example.com"}), 409, "EMAIL_EXISTS")


def test_tags_that_are_alike_are_one_and_accents_tell_them_apart(admin: Caller) -> None:
    for name in ("Straße", "Müller", "ΣΟΦΟΣ", "İ"):
        admin.tag(name)
    for name in ("STRASSE", "Mu\u0308ller", "σοφος", "i\u0307"):
        refused(admin.post("/admin/tags", {"name": name}), 409, "TAG_EXISTS")
    for name in ("Muller", "I", "\u0131"):
        admin.tag(name)


def test_names_are_sorted_alike(admin: Caller) -> None:
    for name in ("zeta", "Éa", "strassf", "Straße", "e\u0301b", "STRASSEN"):
        admin.customer(name)
    page = admin.ok("GET", "/admin/customers", sort_by="name", sort_order="asc")
    assert [each["name"] for each in page["data"]] == ["Straße", "STRASSEN", "strassf", "zeta", "Éa", "éb"]
