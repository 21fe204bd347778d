"""Adapters for frameworks, each in a module of its own that needs the framework: see `docs/`."""
