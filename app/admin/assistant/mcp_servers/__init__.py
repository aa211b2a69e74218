"""Servers of others, whose tools the assistant may use."""
