"""The assistant, and what runs its models."""
