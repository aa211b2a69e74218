"""Records that give orders, and models that obey."""
