"""Bayesian networks: graphs, factors, learning, queries."""
