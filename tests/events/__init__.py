"""Tests of events that leave the service."""
