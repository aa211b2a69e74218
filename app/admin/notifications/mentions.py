"""Who is mentioned in a text: `@` and a person's name, or the email of who has no name."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Self

from sqlalchemy import text

from app.db.session import Session

NAMES = text("SELECT id, coalesce(name, email) FROM users WHERE coalesce(name, email) IS NOT NULL")
# So many are looked at in one text: whoever means more people than this means nobody.
MOST = 100


class People:
    """The people of a tenant by their names, as they are compared."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        self.by_name: dict[str, set[str]] = defaultdict(set)
        for person, name in names:
            if compared := _compared(name):
                self.by_name[compared].add(person)
        self.longest = max(map(len, self.by_name), default=0)

    @classmethod
    async def read(cls, session: Session) -> Self:
        """Those of the session's tenant."""
        return cls((await session.execute(NAMES)).all())


def mentioned(content: str, people: People) -> set[str]:
    """The people whom a text names. Where a name begins with another one, the longer one is meant; and of several
    people with the same name, all.
    """
    compared = _compared(content)
    found: set[str] = set()
    place = -1
    for _ in range(MOST):
        place = compared.find("@", place + 1)
        if place < 0:
            break
        if place and _is_word(compared[place - 1]):
            continue  # an email address
        follows = compared[place + 1 : place + 2 + people.longest]
        for length in range(min(len(follows), people.longest), 0, -1):
            ends = length == len(follows) or not _is_word(follows[length])
            if ends and follows[:length] in people.by_name:
                found |= people.by_name[follows[:length]]
                break
    return found


def _compared(content: str) -> str:
    """Without regard to case, composition and the width of blanks."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", content).casefold()).split())


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
