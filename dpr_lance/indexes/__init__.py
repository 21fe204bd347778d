"""The indexes of a table: when each is built, and how much it finds."""
