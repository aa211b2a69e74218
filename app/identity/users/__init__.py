"""The people who log in: registration, passwords, who I am."""
