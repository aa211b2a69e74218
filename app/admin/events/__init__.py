"""The change feed, to be read by other systems."""
