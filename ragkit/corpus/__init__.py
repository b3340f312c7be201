"""Passages on disk: the memory-mapped store, the readers of every corpus and question format, the splitter."""
