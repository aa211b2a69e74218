"""What a person has to do and when: as the API shows it, and as calendar programs read it."""
