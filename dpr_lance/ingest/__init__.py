"""Ingestion: documents and vectors into a table, each batch at once."""
