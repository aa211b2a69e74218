"""What is in the trash."""
