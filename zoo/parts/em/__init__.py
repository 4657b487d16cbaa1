"""Expectation-maximisation of Gaussian mixtures, many starts as one batch.

gaussian   the iterations
kmeans     where they start
"""
