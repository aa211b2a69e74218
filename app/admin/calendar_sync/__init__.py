"""Keeping a connected calendar and its person's activities the same."""
