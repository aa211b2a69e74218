"""Files that jobs make, such as reports."""

from pathlib import Path

from migrations.rules import isolate, own_only, run

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0010")


def upgrade() -> None:
    run((SQL / "files.sql").read_text())
    run(isolate("job_files") + own_only("job_files", "EXISTS (SELECT FROM jobs WHERE jobs.id = job_id)"))


def downgrade() -> None:
    """Files are lost; the jobs that made them say so no more."""
    run("DROP TABLE job_files")
