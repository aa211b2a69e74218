"""What records were, and taking changes back."""
