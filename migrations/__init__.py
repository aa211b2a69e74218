"""The migrations that make the database. `crm db upgrade` runs them; schema.sql shows the result."""
