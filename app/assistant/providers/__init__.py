"""Providers of models, each by its own library: loaded on demand, see app/assistant/provider.py."""
