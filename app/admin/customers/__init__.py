"""Customers, and the tags they wear."""
