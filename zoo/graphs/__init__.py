"""Graphs: variables that depend on each other along the arrows of a directed acyclic graph."""
