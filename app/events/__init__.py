"""What happened, once and in order, for other systems that want to know."""
