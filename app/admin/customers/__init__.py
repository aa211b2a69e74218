"""Customers, and their tags."""
