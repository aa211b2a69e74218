"""Reports that are made again and again."""
