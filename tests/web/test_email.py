"""Which email addresses are taken without asking the library."""

from __future__ import annotations

import email_validator
from hypothesis import given
from hypothesis.strategies import from_regex

from app.web.email import LONGEST_PLAIN, PLAIN, check_email


@given(from_regex(PLAIN, fullmatch=True).filter(lambda text: len(text) <= LONGEST_PLAIN))
def test_the_library_accepts_every_address_that_it_is_not_asked_about(address: str) -> None:
    assert check_email(address) == address
    email_validator.validate_email(address, check_deliverability=False)


def test_a_usual_address_is_plain() -> None:
    assert PLAIN.fullmatch("Ada.Lovelace+crm@mail.Analytical-Engines.co.uk")
