"""The audit log, to be read by admins."""
