"""Reports that are made in the background, as files."""
