"""A small story to look at, for the first `make run`: told once, into an empty embedded database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from app.cli.token import user_id_of
from app.db.schema import SERVICE_ROLE, enter_tenant
from app.settings import Settings

TENANT = "default"
PEOPLE = {"admin": "Ada Admin", "manager": "Mia Manager", "agent": "Abe Agent"}
TAGS = {"VIP": "#f59e0b", "Newsletter": "#6366f1", "Partner": "#22c55e", "Trade fair": "#a855f7"}
# Name, company, status, whose, tags; then deals: title, amount, stages come through, days ago begun.
STORY: list[tuple[str, str | None, str, str | None, list[str], list[tuple[str, int, str, int]]]] = [
    (
        "Ada Lovelace",
        "Analytical Engines",
        "active",
        "agent",
        ["VIP", "Partner"],
        [("Difference engine", 48000, "won", 95), ("Spare cogs", 1250, "won", 20)],
    ),
    (
        "Grace Hopper",
        "Harvard Computation Lab",
        "active",
        "agent",
        ["VIP"],
        [("Compiler licences", 36000, "won", 60), ("Training", 4800, "negotiation", 12)],
    ),
    ("Mesut Özil", None, "lead", "agent", ["Newsletter"], []),
    (
        "Katherine Johnson",
        "Orbital Mechanics",
        "prospect",
        "manager",
        ["Trade fair"],
        [("Trajectory review", 22000, "proposal", 18)],
    ),
    (
        "Linus Pauling",
        "Chemical Bonds",
        "inactive",
        "manager",
        ["Newsletter"],
        [("Molecule models", 7400, "lost", 110)],
    ),
    ("Hedy Lamarr", "Spread Spectrum", "lead", "agent", ["Partner"], [("Frequency study", 15500, "qualification", 9)]),
    ("Alan Turing", "Bletchley Consulting", "churned", None, [], [("Support contract", 9600, "lost", 200)]),
    ("Rosalind Franklin", "Helix Imaging", "active", "manager", ["VIP"], [("Camera", 61000, "won", 40)]),
    (
        "Nikola Tesla",
        "Alternating Currents",
        "prospect",
        "agent",
        ["Trade fair"],
        [("Coil rental", 3300, "proposal", 25)],
    ),
    (
        "Marie Curie",
        "Radium Works",
        "active",
        "manager",
        ["Partner"],
        [("Shielding", 27500, "won", 75), ("Shielding II", 30000, "negotiation", 15)],
    ),
    ("Chien-Shiung Wu", "Parity Labs", "lead", None, [], []),
    (
        "Emmy Noether",
        "Symmetry Partners",
        "prospect",
        "agent",
        ["Newsletter"],
        [("Workshop series", 5400, "qualification", 6)],
    ),
    ("Srinivasa Ramanujan", "Infinite Series", "lead", "manager", [], []),
    ("Barbara McClintock", "Jumping Genes", "active", "agent", [], [("Greenhouse sensors", 8900, "won", 30)]),
    (
        "Tim Berners-Lee",
        "Hypertext House",
        "prospect",
        "manager",
        ["Trade fair"],
        [("Hosting", 1900, "prospecting", 3)],
    ),
    ("Dorothy Hodgkin", "Crystal Clear", "active", "agent", ["Newsletter"], [("Diffraction", 18750, "lost", 50)]),
    ("Jagadish Bose", "Wireless Bengal", "lead", "agent", ["Partner"], [("Antenna", 4100, "prospecting", 2)]),
    ("Lise Meitner", "Fission Advisors", "inactive", None, [], []),
    ("Annie Easley", "Launch Vehicles", "prospect", "manager", ["VIP"], [("Battery tests", 12400, "proposal", 14)]),
    ("Vint Cerf", "Packet Post", "active", "manager", ["Partner"], [("Routers", 44000, "won", 10)]),
    ("Radia Perlman", "Spanning Trees", "lead", "agent", [], [("Bridge", 6600, "qualification", 5)]),
    (
        "Ibn al-Haytham",
        "Camera Obscura",
        "prospect",
        "agent",
        ["Trade fair"],
        [("Optics bench", 9800, "negotiation", 22)],
    ),
    ("Mary Anning", "Jurassic Finds", "active", "manager", ["Newsletter"], [("Excavation", 5200, "won", 85)]),
    ("Tu Youyou", "Sweet Wormwood", "lead", None, [], []),
]
LADDER = ["prospecting", "qualification", "proposal", "negotiation"]
# Type, title, days from now (past ones are overdue unless done), whether done.
WORK = [
    ("call", "First call", -20, True),
    ("meeting", "Demo", -8, True),
    ("task", "Send the offer", -2, False),
    ("call", "Ask for a decision", 3, False),
    ("email", "Follow up", 9, False),
]


def plant_demo(settings: Settings) -> None:
    """Tell the story, unless somebody was here before."""
    with psycopg.connect(settings.migration_dsn) as connection:
        teller = _Teller(connection)
        if not teller.anybody_here():
            teller.tell(settings)


class _Teller:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._people = {role: user_id_of(role) for role in PEOPLE}
        self._act_as("admin")

    def anybody_here(self) -> bool:
        """Whether the tenant has customers or tags."""
        row = self._connection.execute("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM tags)").fetchone()
        return row is None or bool(row[0])

    def tell(self, settings: Settings) -> None:
        """Everything, in order."""
        self._connection.execute("SELECT crm_first_stages(%s)", [TENANT])
        self._insert("settings", {"default_currency": settings.default_currency, "timezone": settings.report_timezone})
        for role, person in self._people.items():
            self._connection.execute(
                "INSERT INTO users (tenant_id, id, name, email, role) VALUES (%s, %s, %s, %s, %s)",
                [TENANT, person, PEOPLE[role], f"{role}@example.com", role],
            )
        tags = {name: self._insert("tags", {"name": name, "color": color}) for name, color in TAGS.items()}
        for place, (name, company, status, whose, worn, deals) in enumerate(STORY):
            self._act_as(whose or "admin")
            self._customer(place, name, company, status, whose, sorted(tags[tag] for tag in worn), deals)

    def _customer(
        self,
        place: int,
        name: str,
        company: str | None,
        status: str,
        role: str | None,
        tags: list[int],
        deals: list[tuple[str, int, str, int]],
    ) -> None:
        begun = max((days for _, _, _, days in deals), default=place) + 5
        first, last = name.split(" ", 1)
        address = f"{first}.{last}@example.com".lower().replace(" ", "").replace("ö", "oe")
        owner = self._people[role] if role else None
        customer = self._insert(
            "customers",
            {
                "name": name,
                "email": address,
                "company": company,
                "status": status,
                "assigned_to": owner,
                "tags": tags,
                "contacted": status != "lead",
                "created_at": self._ago(begun),
            },
        )
        self._insert(
            "contacts",
            {
                "customer_id": customer,
                "first_name": first,
                "last_name": last,
                "email": address,
                "is_primary": True,
                "created_at": self._ago(begun),
            },
        )
        if place % 3 == 0:
            self._insert(
                "notes",
                {
                    "customer_id": customer,
                    "content": "Met at the fair; likes to be called before noon.",
                    "author_id": owner or self._people["admin"],
                    "author_name": PEOPLE[role or "admin"],
                    "created_at": self._ago(begun - 1),
                },
            )
        deal = None
        for title, amount, fate, days in deals:
            deal = self._deal(customer, title, amount, fate, days, owner or self._people["manager"])
        kind, title, when, done = WORK[place % len(WORK)]
        if status in {"lead", "prospect", "active"}:
            due = self._ago(-when)
            self._insert(
                "activities",
                {
                    "title": title,
                    "type": kind,
                    "customer_id": customer,
                    "deal_id": deal,
                    "assigned_to": owner or self._people["manager"],
                    "due_date": due,
                    "status": "completed" if done else "scheduled",
                    "completed_at": due if done else None,
                    "priority": "high" if place % 4 == 0 else "normal",
                    "created_at": self._ago(begun),
                },
            )

    def _deal(self, customer: int, title: str, amount: int, fate: str, days: int, owner: str) -> int:
        closed = {"won": "closed_won", "lost": "closed_lost"}.get(fate)
        path = [*(LADDER if closed else LADDER[: LADDER.index(fate) + 1]), *([closed] if closed else [])]
        deal = self._insert(
            "deals",
            {
                "customer_id": customer,
                "title": title,
                "amount": amount,
                "currency": "USD",
                "probability": 10,
                "stage_id": self._stage(path[0]),
                "owner_id": owner,
                "expected_close_date": self._ago(days - 45),
                "stage_entered_at": self._ago(days),
                "created_at": self._ago(days),
            },
        )
        for step in path[1:]:
            self._connection.execute(
                "UPDATE deals SET stage_id = %s, probability = (SELECT probability FROM pipeline_stages WHERE id = %s),"
                " actual_close_date = %s, lost_reason = %s WHERE id = %s",
                [
                    self._stage(step),
                    self._stage(step),
                    self._ago(days * 0.2) if step == closed else None,
                    "Price" if step == "closed_lost" else None,
                    deal,
                ],
            )
        self._spread_history(deal, days, len(path))
        return deal

    def _spread_history(self, deal: int, days: int, steps: int) -> None:
        """The moves took place over the days, not all just now; only the tables' owner can say so."""
        moments = [self._ago(days - days * 0.8 * step / max(steps - 1, 1)) for step in range(steps)]
        self._connection.execute("SELECT set_config('role', 'none', true)")
        history = self._connection.execute("SELECT id FROM stage_history WHERE deal_id = %s ORDER BY id", [deal])
        for (move,), entered, left in zip(history.fetchall(), moments, [*moments[1:], None], strict=True):
            self._connection.execute(
                "UPDATE stage_history SET entered_at = %s, left_at = %s WHERE id = %s", [entered, left, move]
            )
        self._connection.execute("UPDATE deals SET stage_entered_at = %s WHERE id = %s", [moments[-1], deal])
        self._connection.execute("SELECT set_config('role', %s, true)", [SERVICE_ROLE])

    def _stage(self, name: str) -> int:
        row = self._connection.execute("SELECT id FROM pipeline_stages WHERE name = %s", [name]).fetchone()
        assert row is not None, name  # noqa: S101 -- the tenant's first stages
        return int(row[0])

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        columns = ", ".join(values)
        row = self._connection.execute(
            f"INSERT INTO {table} (tenant_id, {columns}) VALUES (%s{', %s' * len(values)}) RETURNING id",
            [TENANT, *values.values()],
        ).fetchone()
        assert row is not None  # noqa: S101 -- an INSERT returns its row
        return int(row[0])

    def _act_as(self, role: str) -> None:
        actor = {"user_id": self._people[role], "user_name": PEOPLE[role], "user_role": role}
        enter_tenant(self._connection, TENANT, actor)

    def _ago(self, days: float) -> datetime:
        return self._now - timedelta(days=days)
