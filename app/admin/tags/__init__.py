"""Tags: labels that admins keep and everybody reads."""
