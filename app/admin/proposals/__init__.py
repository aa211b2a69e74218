"""Proposals: what tools would do for a person, who approves or declines it."""
