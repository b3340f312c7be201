"""Retrieval-augmented question answering: retrievers, readers, and retrievers trained from answers alone."""
