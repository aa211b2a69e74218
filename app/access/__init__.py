"""Authentication and permissions: who asks, and what they may do."""
