"""Calendars of other programs: what an entry there is, and how each kind of server is read and written."""
