"""Records: what goes in and what comes back through the public methods."""
