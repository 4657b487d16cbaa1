"""The Bayesian interchange format."""
