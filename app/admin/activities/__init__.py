"""Activities: work to do, and done."""
