"""Members: the people of an organization, and what it lets each of them do."""
