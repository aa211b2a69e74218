"""What every resource shares: one record at a time, lists, idempotency, the audit chain."""
