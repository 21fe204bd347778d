"""Training of the reader: its model and losses, its batches, and the recipe of the packaged one."""
