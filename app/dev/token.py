"""`crm token`."""

from __future__ import annotations

import time
from pathlib import Path

import click
import jwt

from app.cli.environment import Duration, TenantName, data_dir_option, read_settings
from app.dev.people import PEOPLE, user_id_of
from app.settings import Settings


def make_token(
    settings: Settings,
    *,
    role: str,
    user_id: str | None = None,
    email: str | None = None,
    name: str | None = None,
    tenant: str | None = None,
    ttl: int = 12 * 3600,
) -> str:
    """A token like those of the CMS, signed with this service's secret. Without a name or an id, it is for the example
    person with this role.
    """
    now = int(time.time())
    somebody = next((person for person in PEOPLE.values() if person.role == role.lower()), None)
    if somebody and user_id is None and email is None:
        name = name or somebody.name
    email = email or f"{role.lower()}@example.com"
    claims = {
        "sub": user_id or user_id_of(email),
        "email": email,
        "role": role,
        "permissions": ["read:sources"],
        "iss": settings.issuers[0] if settings.issuers else "cms-service",
        "aud": list(settings.audiences) or ["platform-console"],
        "iat": now,
        "exp": now + ttl,
    }
    claims |= {claim: value for claim, value in (("name", name), ("tenant_id", tenant)) if value is not None}
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")


@click.command()
@click.option("--role", required=True, help="admin, manager or agent.")
@click.option("--user-id", help="The user's id.  [default: a UUID derived from the email]")
@click.option("--email", help="The user's email.  [default: ROLE@example.com]")
@click.option("--name", help="The user's name.")
@click.option(
    "--tenant", type=TenantName(), help="The organization. Without it the token has none, like those of the CMS today."
)
@click.option("--ttl", type=Duration(), default="12h", show_default=True, help="How long it is valid.")
@data_dir_option
def token(
    role: str,
    user_id: str | None,
    email: str | None,
    name: str | None,
    tenant: str | None,
    ttl: int,
    data_dir: Path | None,
) -> None:
    """Print a token like those of the CMS, to try out requests. Not in production.

    \b
    Examples:
      crm token --role admin
      curl -H "Authorization: Bearer $(crm token --role agent --tenant acme)" localhost:3000/admin/me
    """
    settings = read_settings(data_dir)
    if settings.production:
        raise click.ClickException("In production only the CMS, or crm identity, issues tokens.")
    click.echo(make_token(settings, role=role, user_id=user_id, email=email, name=name, tenant=tenant, ttl=ttl))
