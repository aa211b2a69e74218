"""Which email addresses are taken without asking the library."""

from __future__ import annotations

import random

import email_validator

from app.web.email import LONGEST_PLAIN, PLAIN, check_email


def test_the_library_accepts_every_address_that_it_is_not_asked_about() -> None:
    made = random.Random(1)
    texts = (
        "".join(made.choices("aZ9_+-.\u0131", k=made.randint(1, 6)))
        + "@"
        + "".join(made.choices("aZ9-.", k=made.randint(4, 8)))
        for _ in range(20_000)
    )
    plain = [text for text in texts if PLAIN.fullmatch(text)]
    plain += [f"{'a' * (LONGEST_PLAIN - 6)}@b.com", f"a@{'b' * (LONGEST_PLAIN - 6)}.com"]
    assert len(plain) > 40
    for address in plain:
        assert check_email(address) == address
        email_validator.validate_email(address, check_deliverability=False)


def test_a_usual_address_is_plain() -> None:
    assert PLAIN.fullmatch("Ada.Lovelace+crm@mail.Analytical-Engines.co.uk")
