"""Demo data for the first `make run`, written once into an empty embedded database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg

from app.access.permissions import Role
from app.db.roles import SERVICE_ROLE, enter_tenant
from app.dev.people import PEOPLE
from app.settings import Settings

TENANT = "default"
TAGS = {"VIP": "#f59e0b", "Newsletter": "#6366f1", "Partner": "#22c55e", "Trade fair": "#a855f7"}
# Name, company, status, role of the owner, tags, and deals: title, amount, last stage, opened how many days ago.
CUSTOMERS: list[tuple[str, str | None, str, str | None, list[str], list[tuple[str, int, str, int]]]] = [
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
    ("Srinivasa Ramanujan", "Infinite Series", "lead", "admin", [], []),
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
    ("Annie Easley", "Launch Vehicles", "prospect", "admin", ["VIP"], [("Battery tests", 12400, "proposal", 14)]),
    ("Vint Cerf", "Packet Post", "active", "admin", ["Partner"], [("Routers", 44000, "won", 10)]),
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
OPEN_STAGES = ["prospecting", "qualification", "proposal", "negotiation"]
POSITIONS = ["Founder", "Head of Purchasing", "CTO", "Managing Director", "Laboratory Manager"]
INDUSTRIES = ["Engineering", "Computing", "Research", "Chemistry", "Education", "Medicine", "Energy"]
COLLEAGUES = ["Charles Babbage", "Howard Aiken", "Sofia Kovalevskaya", "Max Delbrück", "Inge Lehmann", "Paul Dirac"]
NOTES = [
    "Met at the fair; likes to be called before noon.",
    "The budget is decided in spring. Send figures, not adjectives.",
    "Knows our competitor well, and was not happy there.",
    "Wants one invoice a month, to the address in the contract.",
]


class DemoActivity(NamedTuple):
    """An activity: how many days from today, and at which hour. Without an hour it is a whole day."""

    kind: str
    title: str
    days: int
    hour: int | None
    status: str


SOON = -1  # an hour that means: in two hours
# The customers get these in turn.
ACTIVITIES = [
    [
        DemoActivity("call", "First call", -20, 10, "completed"),
        DemoActivity("meeting", "Demo", -8, 14, "completed"),
        DemoActivity("task", "Send the offer", -2, None, "scheduled"),
    ],
    [
        DemoActivity("email", "Introduction", -15, 9, "completed"),
        DemoActivity("call", "Ask for a decision", 3, 11, "scheduled"),
    ],
    [
        DemoActivity("call", "First call", -18, 15, "completed"),
        DemoActivity("meeting", "Kick-off", 0, SOON, "scheduled"),
    ],
    [
        DemoActivity("meeting", "Workshop", -6, 13, "cancelled"),
        DemoActivity("task", "Prepare the contract", 0, None, "scheduled"),
    ],
    [
        DemoActivity("email", "Price list", -12, 9, "completed"),
        DemoActivity("note", "Reads our newsletter", -5, 16, "completed"),
        DemoActivity("call", "Check in", 9, 15, "scheduled"),
    ],
]
MINUTES = {"call": 15, "meeting": 60}


class DemoProject(NamedTuple):
    """A project: whose, for which customer, when it began and is due, in days from today, and its tasks."""

    name: str
    customer: str | None
    status: str
    owner: Role
    assignees: list[Role]
    days: tuple[int, int]
    tasks: list[tuple[Role, DemoActivity]]


PROJECTS = [
    DemoProject(
        "New laboratory for Radium Works",
        "Marie Curie",
        "in_progress",
        Role.MANAGER,
        [Role.AGENT, Role.ADMIN],
        (-14, 21),
        [
            (Role.MANAGER, DemoActivity("meeting", "Kick-off of the laboratory", -13, 13, "completed")),
            (Role.AGENT, DemoActivity("task", "Measure the rooms", -9, None, "completed")),
            (Role.AGENT, DemoActivity("task", "Get the approval of the authority", -1, None, "scheduled")),
            (Role.ADMIN, DemoActivity("task", "Order the lead glass", 0, None, "scheduled")),
            (Role.AGENT, DemoActivity("task", "Plan the move", 8, None, "scheduled")),
            (Role.MANAGER, DemoActivity("task", "Hand over the keys", 20, None, "scheduled")),
        ],
    ),
    DemoProject(
        "Our stand at the spring fair",
        None,
        "planned",
        Role.AGENT,
        [],
        (3, 60),
        [
            (Role.AGENT, DemoActivity("task", "Choose the pictures", 5, None, "scheduled")),
            (Role.AGENT, DemoActivity("task", "Write to the organizers", 2, None, "scheduled")),
        ],
    ),
]


def create_demo(settings: Settings) -> None:
    """Create the demo data, unless the database has data already."""
    with psycopg.connect(settings.migration_dsn) as connection:
        demo = _Demo(connection)
        if not demo.has_data():
            demo.create(settings)


class _Demo:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC).replace(second=0, microsecond=0)
        self._today = self._now.replace(hour=0, minute=0)
        self._act_as(Role.ADMIN)

    def has_data(self) -> bool:
        """Whether the tenant has customers or tags already."""
        row = self._connection.execute("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM tags)").fetchone()
        return row is None or bool(row[0])

    def create(self, settings: Settings) -> None:
        """Create everything."""
        self._connection.execute("SELECT crm_create_default_stages()")
        self._currency = settings.default_currency
        self._insert("settings", {"default_currency": self._currency, "timezone": settings.report_timezone})
        for person in PEOPLE.values():
            self._connection.execute(
                "INSERT INTO users (tenant_id, id, name, email, role) VALUES (%s, %s, %s, %s, %s)",
                [TENANT, person.user_id, person.name, person.email, person.role],
            )
        tags = {name: self._insert("tags", {"name": name, "color": color}) for name, color in TAGS.items()}
        for index, (name, company, status, role_name, tag_names, deals) in enumerate(CUSTOMERS):
            role = Role(role_name) if role_name else None
            self._act_as(role or Role.ADMIN)
            self._customer(index, name, company, status, role, sorted(tags[tag] for tag in tag_names), deals)
        for project in PROJECTS:
            self._project(project)
        self._mention(Role.MANAGER, Role.ADMIN, Role.AGENT)
        # The moves were spread over the past behind the sums' back. Only the owner adds up anew: rights are looked at
        # before a statement runs, so that the role is another statement's.
        self._connection.execute("SELECT set_config('role', 'none', true)")
        self._connection.execute("SELECT crm_add_up_reports(%s)", [TENANT])

    def _project(self, project: DemoProject) -> None:
        """A project and its tasks, which were planned as it began."""
        self._act_as(project.owner)
        begun, due = project.days
        planned = max(1 - begun, 1)
        customer = self._connection.execute("SELECT id FROM customers WHERE name = %s", [project.customer]).fetchone()
        made = self._record(
            "projects",
            self._ago(planned, 9),
            name=project.name,
            status=project.status,
            customer_id=customer and customer[0],
            owner_id=PEOPLE[project.owner].user_id,
            assignees=[PEOPLE[role].user_id for role in project.assignees],
            start_date=self._ago(-begun),
            due_date=self._ago(-due),
        )
        for role, task in project.tasks:
            self._activity(task, planned, project_id=made, assigned_to=PEOPLE[role].user_id)

    def _mention(self, author: Role, *others: Role) -> None:
        """A note of today that tells others something: they are notified of it."""
        self._act_as(author)
        row = self._connection.execute("SELECT min(id) FROM customers").fetchone()
        names = " and ".join(f"@{PEOPLE[role].name}" for role in others)
        self._record(
            "notes",
            self._now,
            customer_id=row and row[0],
            content=f"{names}: can one of you take the next call? I am away next week.",
            author_id=PEOPLE[author].user_id,
            author_name=PEOPLE[author].name,
        )

    def _customer(
        self,
        index: int,
        name: str,
        company: str | None,
        status: str,
        role: Role | None,
        tags: list[int],
        deals: list[tuple[str, int, str, int]],
    ) -> None:
        """A customer and everything that belongs to it, in the order in which it happened."""
        age = max((days for _, _, _, days in deals), default=index % 9 + 1) + 5
        first, last = name.split(" ", 1)
        address = f"{first}.{last}@example.com".lower().replace(" ", "").replace("ö", "oe")
        owner = PEOPLE[role].user_id if role else None
        customer = self._record(
            "customers",
            self._ago(age, 8),
            name=name,
            email=address,
            # Numbers that are reserved for fiction.
            phone=f"+44 20 7946 0{index:03}",
            company=company,
            role=POSITIONS[index % len(POSITIONS)],
            kind="person",
            industry=INDUSTRIES[index % len(INDUSTRIES)] if company else None,
            website=f"https://{company.lower().replace(' ', '-')}.example" if company else None,
            status=status,
            assigned_to=owner,
            tags=tags,
            contacted=status != "lead",
            next_follow_up_at=None if status == "churned" or index % 2 else self._ago(2 - index % 7),
        )
        contact = self._record(
            "contacts",
            self._ago(age, 8),
            customer_id=customer,
            first_name=first,
            last_name=last,
            email=address,
            phone=f"+44 7700 900{index:03}",
            position=POSITIONS[index % len(POSITIONS)],
            is_primary=True,
        )
        if company and index % 4 == 0:
            first, last = COLLEAGUES[index // 4].split(" ")
            self._record("contacts", self._ago(age - 1, 9), customer_id=customer, first_name=first, last_name=last)
        if index % 2 == 0:
            self._record(
                "notes",
                self._ago(age - 1, 10),
                customer_id=customer,
                content=NOTES[index // 2 % len(NOTES)],
                author_id=PEOPLE[role or Role.ADMIN].user_id,
                author_name=PEOPLE[role or Role.ADMIN].name,
            )
        assignee = owner or PEOPLE[Role.MANAGER].user_id
        open_deals = [
            (
                days,
                self._deal(title, amount, outcome, days, customer_id=customer, contact_id=contact, owner_id=assignee),
            )
            for title, amount, outcome, days in deals
        ]
        for activity in ACTIVITIES[index % len(ACTIVITIES)]:
            # On different days for different customers.
            days = activity.days and activity.days + index % 4 * (1 if activity.days > 0 else -1)
            planned = max(2 - days, 1)
            if planned < age and (activity.status != "scheduled" or status in {"lead", "prospect", "active"}):
                self._activity(
                    activity._replace(days=days),
                    planned,
                    customer_id=customer,
                    contact_id=contact,
                    deal_id=next((deal for opened, deal in reversed(open_deals) if opened > planned), None),
                    assigned_to=assignee,
                    priority="high" if index % 4 == 0 else "normal",
                )

    def _activity(self, activity: DemoActivity, planned: int, **links: Any) -> None:
        """An activity that was planned so many days ago."""
        created, due = self._ago(planned, 11), self._ago(-activity.days, activity.hour or 0)
        if activity.hour == SOON:
            due = self._now.replace(minute=0) + timedelta(hours=2)
        self._record(
            "activities",
            created,
            updated_at=created if activity.status == "scheduled" else due,
            title=activity.title,
            type=activity.kind,
            due_date=due,
            all_day=activity.hour is None,
            remind_at=due - timedelta(minutes=30) if activity.hour == SOON else None,
            status=activity.status,
            completed_at=due if activity.status == "completed" else None,
            duration=MINUTES.get(activity.kind),
            **links,
        )

    def _deal(self, title: str, amount: int, outcome: str, days: int, **links: Any) -> int:
        """A deal that was opened so many days ago and moved to its last stage."""
        closed = {"won": "closed_won", "lost": "closed_lost"}.get(outcome)
        path = [
            *(OPEN_STAGES if closed else OPEN_STAGES[: OPEN_STAGES.index(outcome) + 1]),
            *([closed] if closed else []),
        ]
        deal = self._record(
            "deals",
            self._ago(days, 9),
            title=title,
            amount=amount,
            currency=self._currency,
            probability=10,
            stage_id=self._stage(path[0]),
            expected_close_date=self._ago(days - 45),
            stage_entered_at=self._ago(days, 9),
            **links,
        )
        for step in path[1:]:
            self._connection.execute(
                "UPDATE deals SET stage_id = %s, probability = (SELECT probability FROM pipeline_stages WHERE id = %s),"
                " actual_close_date = %s, lost_reason = %s WHERE id = %s",
                [
                    self._stage(step),
                    self._stage(step),
                    self._ago(days * 0.2, 9) if step == closed else None,
                    "Price" if step == "closed_lost" else None,
                    deal,
                ],
            )
        self._spread_history(deal, days, len(path))
        return deal

    def _spread_history(self, deal: int, days: int, steps: int) -> None:
        """Spread the moves over the past days. Only the tables' owner can change the history."""
        moments = [self._ago(days - days * 0.8 * step / max(steps - 1, 1), 9) for step in range(steps)]
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

    def _record(self, table: str, created: datetime, **values: Any) -> int:
        """A record that was created at that moment."""
        return self._insert(table, {"created_at": created, "updated_at": created, **values})

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        columns = ", ".join(values)
        row = self._connection.execute(
            f"INSERT INTO {table} (tenant_id, {columns}) VALUES (%s{', %s' * len(values)}) RETURNING id",
            [TENANT, *values.values()],
        ).fetchone()
        assert row is not None  # noqa: S101 -- an INSERT returns its row
        return int(row[0])

    def _act_as(self, role: Role) -> None:
        """What follows is one operation of this person."""
        person = PEOPLE[role]
        actor = {"user_id": person.user_id, "user_name": person.name, "user_role": role, "operation_id": str(uuid4())}
        enter_tenant(self._connection, TENANT, actor)

    def _ago(self, days: float, hour: int = 0) -> datetime:
        """The time so many days before today, at this hour UTC. Without an hour, midnight."""
        return self._today + timedelta(days=-days, hours=hour)
