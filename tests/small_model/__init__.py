"""Trials with a real language model, small enough for any machine: `make small-model`."""
