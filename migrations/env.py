"""Alembic's entry point. `app.db.migrations` gives it the connection that holds the lock."""

import warnings
from typing import Any

from alembic import context


def _include(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    # Alembic can't compare an index of an expression with a collation.
    return not (kind == "index" and name is not None and name.endswith("_search_idx"))


# Alembic hands SQLAlchemy what it reflected of a deferrable constraint under a name that it does not know.
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
