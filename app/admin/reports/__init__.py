"""Reports: the sales in figures."""
