"""Calendars elsewhere that a person connects: by consent (OAuth 2.0), or with a password."""
