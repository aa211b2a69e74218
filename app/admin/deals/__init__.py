"""Deals: what customers may buy, and how far that is."""
