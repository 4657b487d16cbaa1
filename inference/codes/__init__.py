"""Codes of single observations: reading, encoding, refining them, and how far a guide is from the posterior."""
