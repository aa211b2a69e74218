"""What a person is told: what others did, what is due, and what has ended in the background."""
