"""Imports: records from a file, looked at first, done once, undone if wrong."""
