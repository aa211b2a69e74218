"""Webhooks: events that are sent to other systems, by the Standard Webhooks specification."""
