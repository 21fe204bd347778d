"""What goes in: documents, the types that their metadata can have, and their values as columns of Arrow."""
