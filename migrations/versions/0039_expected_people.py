"""Who is expected is found also when somebody comes with another email; nobody takes the own admin's rights away."""

from pathlib import Path

from migrations.rules import run

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0039") / "members.sql"
FORMER = Path(__file__).with_name("0027") / "members.sql"


def upgrade() -> None:
    run(SQL.read_text())


def downgrade() -> None:
    """Invitations are found at the first request of a person only."""
    run("""
        DROP TRIGGER expect ON members;
        DROP FUNCTION crm_expect_member;
        DROP TRIGGER join_member ON users;
        CREATE TRIGGER join_member AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION crm_join_member();
    """)
    former = FORMER.read_text()
    for name in ("crm_join_member", "crm_keep_an_admin"):
        begin = former.index(f"CREATE FUNCTION {name}()")
        end = former.index("END $$;", begin) + len("END $$;")
        run(former[begin:end].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
