"""`crm seed`: as many believable customers as wanted, always the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg

from app.access.tokens import LONGEST_ID
from app.cli.environment import data_dir_option, workplace
from app.db.migrations import Migrations
from app.db.schema import enter_tenant

BATCH = 20_000
AGENTS = 40
FIRST_NAMES = """
    Ada Alan Amara Anna Aylin Björn Chen Chiara David Elif Emma Farid Grace Hedy Igor Ines Jonas Kofi Lena Luca
    Maria Mei Nadia Noah Olga Omar Paul Priya Ravi Rosa Sana Sofia Tariq Tomás Uma Viktor Wanjiru Yara Yusuf Zoë
""".split()
LAST_NAMES = """
    Abebe Andersson Bauer Bianchi Chen Costa Dubois Eriksen Fischer García Haddad Hopper Ivanov Jensen Kaya Khan
    Kim Kowalski Lovelace Mensah Meyer Müller Nakamura Novák Okafor O'Brien Özil Patel Petrov Rossi Sato Schmidt
    Silva Singh Smith Tanaka Turing Wagner Yilmaz Zhang
""".split()
TRADES = """
    Analytics Bakery Consulting Design Energy Foods Freight Health Labs Logistics Media Partners Robotics Software
    Studio Systems Textiles Tools Travel Works
""".split()
ROLES = "CEO CFO CTO Buyer Founder Engineer Manager Owner Designer Accountant".split()
SEED_ACTOR = {"user_id": "seed", "user_name": "Seed", "user_role": "admin"}
STATUSES = {"lead": 40, "prospect": 20, "active": 25, "inactive": 10, "churned": 5}
TAGS = {"VIP": "#f59e0b", "Newsletter": "#6366f1", "Partner": "#22c55e", "Trade fair": "#a855f7", "Referral": "#64748b"}
COLUMNS = "name, email, phone, company, role, status, assigned_to, contacted, next_follow_up_at, tags, created_at"
# Relative to a fixed day, so that the same seed is the same data on every day.
TODAY = datetime(2026, 1, 1, tzinfo=UTC)


def customers(count: int, seed: int, tag_ids: list[int]) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of COLUMNS: two years of them, growing, with a few busy agents."""
    chance = random.Random(seed)  # noqa: S311 -- data, not secrets
    agents = [f"agent-{number}" for number in range(1, AGENTS + 1)]
    weights = [1 / number for number in range(1, AGENTS + 1)]
    statuses, shares = list(STATUSES), list(STATUSES.values())
    for number in range(count):
        first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        company = f"{chance.choice(LAST_NAMES)} {chance.choice(TRADES)}"
        age = timedelta(days=730 * (1 - chance.random() ** 0.5))
        created = TODAY - age
        status = chance.choices(statuses, shares)[0]
        has_agent = chance.random() < 0.9
        worn = sorted(chance.sample(tag_ids, chance.choices((0, 1, 2, 3), (40, 35, 20, 5))[0]))
        yield (
            f"{first} {last}",
            f"{first}.{last}.{seed}.{number}@example.com".lower().replace("'", "") if chance.random() < 0.95 else None,
            f"+1 555 {chance.randrange(10**7):07}" if chance.random() < 0.7 else None,
            company if chance.random() < 0.8 else None,
            chance.choice(ROLES) if chance.random() < 0.6 else None,
            status,
            chance.choices(agents, weights)[0] if has_agent else None,
            status != "lead",
            TODAY + timedelta(days=chance.randrange(-30, 60)) if chance.random() < 0.3 else None,
            worn,
            created,
        )


class TenantName(click.ParamType[str]):
    """What a token may name."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is."""
        if not 1 <= len(str(value)) <= LONGEST_ID:
            self.fail(f"must have 1 to {LONGEST_ID} characters", param, ctx)
        return str(value)


@click.command()
@click.option("--customers", "count", type=click.IntRange(1), required=True, help="How many.")
@click.option("--tenant", type=TenantName(), default="default", show_default=True, help="Who gets them.")
@click.option("--seed", "number", type=int, default=1, show_default=True, help="The same number makes the same data.")
@data_dir_option
def seed(count: int, tenant: str, number: int, data_dir: Path | None) -> None:
    """Fill a tenant with made-up customers, for trying out and measuring. Never in production.

    \b
    Example:
      crm seed --customers 1000000 --tenant big
    """
    with workplace(data_dir) as place:
        if place.settings.production:
            raise click.ClickException("Made-up data has no place in production.")
        if place.embedded:
            Migrations(place.settings.migration_dsn, place.settings.database_dsn).upgrade()
        with psycopg.connect(place.settings.database_dsn) as connection:
            _fill(connection, count, tenant, number)


def _fill(connection: psycopg.Connection, count: int, tenant: str, number: int) -> None:
    with connection.transaction():
        enter_tenant(connection, tenant, SEED_ACTOR)
        tag_ids = [_tag(connection, tenant, name, color) for name, color in TAGS.items()]
    rows = customers(count, number, tag_ids)
    with click.progressbar(length=count, label=f"Customers of {tenant}") as bar:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            # COPY knows no row-level security, so it fills a table of this session, and INSERT goes on from there.
            with connection.transaction():
                enter_tenant(connection, tenant, SEED_ACTOR)
                connection.execute(
                    f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {COLUMNS} FROM customers WITH NO DATA"  # noqa: S608 -- our own names
                )
                with connection.cursor().copy(f"COPY incoming ({COLUMNS}) FROM STDIN") as copy:
                    for _ in range(size):
                        copy.write_row(next(rows))
                connection.execute(
                    f"INSERT INTO customers (tenant_id, {COLUMNS}, updated_at)"  # noqa: S608 -- our own names
                    f" SELECT %s, {COLUMNS}, created_at FROM incoming",
                    [tenant],
                )
            bar.update(size)
    connection.commit()


def _tag(connection: psycopg.Connection, tenant: str, name: str, color: str) -> int:
    row = connection.execute(
        "INSERT INTO tags (tenant_id, name, color) VALUES (%s, %s, %s)"
        " ON CONFLICT (tenant_id, name_folded) DO UPDATE SET color = excluded.color RETURNING id",
        [tenant, name, color],
    ).fetchone()
    assert row is not None  # noqa: S101 -- the statement always returns one
    return int(row[0])
