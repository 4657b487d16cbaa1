"""The typed columns of a table."""
