"""Scores of answers and of rankings, with their intervals."""
