"""Alembic's entry point. `app.db.migrations` gives it the connection that holds the lock."""

import warnings
from typing import Any

from alembic import context


def _include(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    # The models declare no indexes: tests/laws/test_resources.py checks those that lists need. The queue's tables are
    # its library's business.
    return kind != "index" and not (kind == "table" and (name or "").startswith("procrastinate_"))


# For deferrable constraints Alembic passes an option that SQLAlchemy does not know: the warning is harmless.
warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'")

config: Any = context.config
context.configure(
    connection=config.attributes["connection"],
    target_metadata=config.attributes["metadata"],
    version_table=config.version_table_name,
    compare_type=True,
    compare_server_default=False,
    include_object=_include,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
