"""Columns of mixed types."""
