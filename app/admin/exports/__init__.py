"""Exports: lists as files, the archive of an organization, and all that is kept about one customer."""
