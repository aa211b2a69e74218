"""Servers on this machine that speak the APIs of others, as their documentation says."""
