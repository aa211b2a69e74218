"""What programs and assistants may do for a person: tools, each a request to the routes of /admin."""
