"""Mail: what is sent to people, by SMTP or into files."""
