"""The people of the demo and of `crm token`.

A person's id is derived from the email address, so that it is the same everywhere.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from app.access.permissions import Role

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "crm-service.example.com")


def user_id_of(email: str) -> str:
    """The user id for an email address."""
    return str(uuid.uuid5(NAMESPACE, email.strip().lower()))


class ExamplePerson(NamedTuple):
    """An example person, one for each role."""

    role: Role
    name: str

    @property
    def email(self) -> str:
        """The email address."""
        return f"{self.role}@example.com"

    @property
    def user_id(self) -> str:
        """The user id in tokens and records."""
        return user_id_of(self.email)


PEOPLE = {
    person.role: person
    for person in (
        ExamplePerson(Role.ADMIN, "Ada Admin"),
        ExamplePerson(Role.MANAGER, "Mia Manager"),
        ExamplePerson(Role.AGENT, "Alan Agent"),
    )
}
