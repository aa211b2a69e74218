"""The assistant: what it needs of language models. It knows nothing of HTTP requests and of records."""
