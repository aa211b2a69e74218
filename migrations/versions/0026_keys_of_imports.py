"""The rows of an import are an object of its organization: a row can name no other one, to have it read or deleted."""

from migrations.rules import run

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# As app/storage/objects.py makes keys.
OWN = """
    split_part(object_key, '/', 1) IN (tenant_id, '~' || encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'))
"""


def upgrade() -> None:
    run(f"ALTER TABLE imports ADD CONSTRAINT imports_object_key_check CHECK ({OWN})")


def downgrade() -> None:
    run("ALTER TABLE imports DROP CONSTRAINT imports_object_key_check")
