"""Erasing a person's data for good."""
