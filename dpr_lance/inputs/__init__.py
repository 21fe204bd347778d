"""Readers: files, data frames and streams as documents, questions and embeddings."""
