"""Records that may be the same, and merging them."""
