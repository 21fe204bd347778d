"""Records: what comes back through the public methods."""
