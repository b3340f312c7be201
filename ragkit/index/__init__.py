"""Vectors and row numbers on disk; never text, never models."""
