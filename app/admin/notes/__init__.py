"""Notes: what somebody wants to be remembered."""
