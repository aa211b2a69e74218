"""What an organization sets for itself."""
