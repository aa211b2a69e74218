"""What only a developer's machine runs. The production image does not contain it."""
