"""Personal access tokens: what programs that can't log in ask with."""
