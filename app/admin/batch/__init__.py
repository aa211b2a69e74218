"""Several requests in one transaction."""
