"""Regressions: covariates in, a response with its uncertainty out."""
