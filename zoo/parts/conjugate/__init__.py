"""Conjugate posteriors in closed form, as numbers and as guides whose numbers are learned.

factors   one latent at a time: Dirichlet, inverse gamma, normal, negative binomial
inverse_gamma  its density, which holds at any scale
linear    coefficients and variance of a linear regression
"""
