"""Conjugate posteriors in closed form, as numbers and as guides whose numbers are learned.

factors   one latent at a time: Dirichlet, inverse gamma, normal, negative binomial
inverse_gamma  its density, which holds at any scale
scaled    coefficients given the variance, drawn without a matrix for each variance
linear    coefficients and variance of a linear regression
"""
