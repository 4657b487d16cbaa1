"""Bayesian networks.

graph      arrows, parents, order, cycles by name
known      tables that are not learned, as an argument
network    where tables, equations and blocks stand
factors    sums of products of factors, as one einsum
gaussian   linear-Gaussian nodes that hang together
row        a row as a distribution, missing cells summed out
learning   conjugate posteriors, expectation-maximisation
query      P(variables | evidence, do(...))
many       the same of many rows of evidence, side by side
explain    the most probable explanation of evidence
words      names of tables and equations: P(child = state | parent = state)
bif/       the file format
"""
