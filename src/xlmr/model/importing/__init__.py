"""Models come in here: the starter from the package index, others from a hub or a directory."""
