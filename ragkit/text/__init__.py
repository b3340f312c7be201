"""Strings: templates, token counts, normalisation, and where models are found."""
