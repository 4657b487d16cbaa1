"""Expectation-maximisation of Gaussian mixtures, and where it starts."""
