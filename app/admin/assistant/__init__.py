"""The assistant: conversations with a language model that has the same tools as other programs."""
