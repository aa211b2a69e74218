"""Sessions: logging in, refreshing, logging out, and a person's devices."""
