"""Who runs the assistant's model, and what it may cost."""
