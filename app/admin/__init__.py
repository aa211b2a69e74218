"""The resources, laid out as their URLs are."""
