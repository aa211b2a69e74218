"""An erasure takes time by the number of records, no longer by its square."""

from pathlib import Path

from migrations.rules import run

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0008")


def upgrade() -> None:
    run((SQL / "erasure.sql").read_text())


def downgrade() -> None:
    """What 0007 has is right too, only slower: there is nothing to undo."""
