"""A little to look at, for the first `make run`: planted once, into an empty embedded database."""

from __future__ import annotations

import psycopg

from app.db.schema import enter_tenant
from app.settings import Settings

TENANT = "default"
TAGS = [("VIP", "#f59e0b"), ("Newsletter", "#6366f1"), ("Partner", "#22c55e")]
CUSTOMERS = [
    ("Ada Lovelace", "ada@analytical.example.com", "Analytical Engines Ltd", "Countess", "active", ["VIP", "Partner"]),
    ("Grace Hopper", "grace@cobol.example.com", "Harvard Computation Lab", "Rear Admiral", "active", ["VIP"]),
    ("Mesut Özil", "mesut@example.com", None, None, "lead", ["Newsletter"]),
    ("Katherine Johnson", "katherine@orbits.example.com", "Orbital Mechanics Inc", "CTO", "prospect", []),
    ("Linus Pauling", "linus@bonds.example.com", "Chemical Bonds AG", "Head of Research", "inactive", ["Newsletter"]),
    ("Hedy Lamarr", "hedy@spread.example.com", "Spread Spectrum LLC", "Founder", "lead", ["Partner"]),
    ("Alan Turing", None, "Bletchley Consulting", None, "churned", []),
]


def plant_demo(settings: Settings) -> None:
    """Put the demo in, unless somebody was here before."""
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, TENANT, {"user_id": "demo", "user_name": "Demo", "user_role": "admin"})
        used = connection.execute("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM tags)").fetchone()
        if used is None or used[0]:
            return
        tags = {
            name: connection.execute(
                "INSERT INTO tags (tenant_id, name, color) VALUES (%s, %s, %s) RETURNING id", [TENANT, name, color]
            ).fetchone()
            for name, color in TAGS
        }
        for name, email, company, role, status, worn in CUSTOMERS:
            ids = sorted(row[0] for tag in worn if (row := tags[tag]) is not None)
            connection.execute(
                "INSERT INTO customers (tenant_id, name, email, company, role, status, tags)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [TENANT, name, email, company, role, status, ids],
            )
