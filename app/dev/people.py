"""The people of examples: who logs in at `crm issuer`, whose tokens `crm token` prints, whose the demo's records are.

Whoever has an email address is the same person everywhere, since the id is made of it.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from app.access.permissions import Role

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "crm-service.example.com")


def user_id_of(email: str) -> str:
    """The id of whoever has this address."""
    return str(uuid.uuid5(NAMESPACE, email.strip().lower()))


class ExamplePerson(NamedTuple):
    """One of them."""

    role: Role
    name: str

    @property
    def email(self) -> str:
        """The address, by role."""
        return f"{self.role}@example.com"

    @property
    def user_id(self) -> str:
        """The id that tokens and records name."""
        return user_id_of(self.email)


PEOPLE = {
    person.role: person
    for person in (
        ExamplePerson(Role.ADMIN, "Ada Admin"),
        ExamplePerson(Role.MANAGER, "Mia Manager"),
        ExamplePerson(Role.AGENT, "Alan Agent"),
    )
}
