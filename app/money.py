"""Currencies as ISO 4217 lists them."""

import iso4217

# Amounts are stored as numeric(19,4): the most decimals that a currency has, and less than 10¹⁵.
STORED_DECIMALS = 4
AMOUNT_LIMIT = 10**15


def currency_decimals(code: str) -> int | None:
    """How many decimals an amount in this currency may have; None if ISO 4217 knows no such code."""
    try:
        exponent = iso4217.Currency(code).exponent
    except ValueError:
        return None
    return STORED_DECIMALS if exponent is None else min(exponent, STORED_DECIMALS)
