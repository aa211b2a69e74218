"""The people that this service has seen in tokens."""
