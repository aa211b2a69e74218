"""How the database comes to be, step by step. `crm db upgrade` runs them."""
