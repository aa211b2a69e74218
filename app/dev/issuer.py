"""`crm issuer`: a stand-in for the CMS's login, for development. The service itself only verifies tokens."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import click
import msgspec
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Response, Router, get, post
from litestar.datastructures import State
from litestar.params import JSONBody
from msgspec import Meta, Struct

from app.access.actor import Actor
from app.access.permissions import PERMISSIONS, Role
from app.access.tenants import is_tenant_id
from app.access.tokens import DEFAULT_TENANT, TokenVerifier
from app.admin.me.routes import Me, Person
from app.cli.environment import data_dir_option, read_settings
from app.cli.serve import free_port
from app.dev.people import PEOPLE, user_id_of
from app.dev.token import make_token
from app.settings import Settings
from app.web.cors import Cors
from app.web.error_responses import error_response
from app.web.errors import ErrorBody
from app.web.input import CrmRequest, read_input
from app.web.structs import Body

# Pages on the developer's own machine, used if CORS_ALLOWED_ORIGINS is not set.
LOCAL_PAGES = ("http://localhost:*", "http://127.0.0.1:*")
WRONG = ErrorBody("INVALID_CREDENTIALS", "The email address or the password is wrong")

Text = Annotated[str, Meta(min_length=1, max_length=255)]


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may log in. Without a tenant, the tokens have no `tenant_id`, like those of the CMS today."""

    email: Text
    password: Text
    role: Role
    name: Text
    tenant_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def matches(self, email: str, password: str) -> bool:
        """Whether these are this user's, compared in constant time."""
        known = hmac.compare_digest(self.email.lower().encode(), email.strip().lower().encode())
        return hmac.compare_digest(self.password.encode(), password.encode()) and known

    @property
    def actor(self) -> Actor:
        """The actor that the service will see."""
        return Actor(
            user_id=user_id_of(self.email),
            tenant_id=self.tenant_id or DEFAULT_TENANT,
            role=self.role,
            roles=(self.role,),
            name=self.name,
            email=self.email,
        )


class Login(Body):
    """The body of a login."""

    email: Text
    password: Text


class Session(Struct):
    """The answer of a login."""

    token: str
    user: Person


@post("/login", status_code=200)
async def login(request: CrmRequest, data: JSONBody[Login]) -> Response[Session] | Response[ErrorBody]:
    """Answer with a token if the email address and the password are right."""
    # All users are compared, so that the time does not show which addresses exist.
    found = [user for user in request.app.state.users if user.matches(data.email, data.password)]
    if not found:
        return Response(WRONG, status_code=401)
    (user,) = found
    token = make_token(
        request.app.state.settings,
        role=user.role,
        user_id=user.actor.user_id,
        email=user.email,
        name=user.name,
        tenant=user.tenant_id,
    )
    return Response(Session(token, _person(user.actor)))


@get("/me")
async def me(request: CrmRequest) -> Response[Me]:
    """The owner of the token."""
    actor = request.app.state.tokens.actor(request.headers)
    return Response(Me(_person(actor), [*PERMISSIONS[actor.role], *actor.token_permissions]))


def _person(actor: Actor) -> Person:
    return Person(actor.reference, actor.email, actor.name, actor.role, list(actor.roles), actor.tenant_id)


def create_issuer(settings: Settings, users: Sequence[User]) -> Litestar:
    """The app that lets these users log in, and signs with the settings' secret."""
    app = Litestar(
        route_handlers=[Router("/admin", route_handlers=[login, me])],
        request_class=CrmRequest,
        before_request=read_input,
        exception_handlers={Exception: error_response},
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,
        logging_config=None,
        state=State({"settings": settings, "users": users, "tokens": TokenVerifier(settings)}),
    )
    app.asgi_handler = Cors(app.asgi_handler, settings.allowed_origins or LOCAL_PAGES)
    return app


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for every address of the machine.")
@click.option(
    "--users",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A JSON list of {"email", "password", "role", "name"} and, if wanted, "tenant_id".',
)
@data_dir_option
def issuer(port: int, host: str, file: Path | None, data_dir: Path | None) -> None:
    """Let people log in and hand out tokens, in place of the CMS. For development only.

    POST /admin/login takes {"email", "password"} and answers {"token", "user"}. GET /admin/me shows the owner of a
    token. It needs the same JWT_SECRET as the service, or the same data directory. Without --users it makes an admin, a
    manager and an agent, and prints their passwords.

    \b
    Examples:
      crm issuer
      crm issuer --port 8090 --users users.json
    """
    settings = read_settings(data_dir)
    if settings.production:
        raise click.ClickException("In production only the CMS issues tokens.")
    users = _read(file) if file else _made_up()
    asyncio.run(_serve(create_issuer(settings, users), host, free_port(host, port)))
    # The web server's threads sometimes abort while the interpreter ends.
    sys.stdout.flush()
    os._exit(0)


def _read(file: Path) -> list[User]:
    try:
        users = msgspec.json.decode(file.read_bytes(), type=list[User])
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{file}: {error}") from None
    if len({user.email.lower() for user in users}) < len(users):
        raise click.ClickException(f"{file}: an email address is there twice")
    for user in users:
        if user.tenant_id is not None and not is_tenant_id(user.tenant_id):
            raise click.ClickException(f"{file}: {user.tenant_id!r} can't be the organization of a token")
    return users


def _made_up() -> list[User]:
    users = [User(person.email, secrets.token_urlsafe(9), person.role, person.name) for person in PEOPLE.values()]
    for user in users:
        click.echo(f"{user.email}  {user.password}")
    return users


async def _serve(app: Litestar, host: str, port: int) -> None:
    server = Server(app, address=host, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False)

    def started() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)

    server.on_startup(started)
    # It says that it starts a moment before it listens.
    told = asyncio.create_task(_tell_when_ready(host, port))
    await server.serve()
    told.cancel()


async def _tell_when_ready(host: str, port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            break
        await asyncio.sleep(0.02)
    click.echo(f"ready http://{f'[{host}]' if ':' in host else host}:{port}")
