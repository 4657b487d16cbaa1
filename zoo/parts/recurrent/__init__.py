"""Recurrent networks, and sequences with continuous latent states.

cells         recurrent networks, whole and step by step
path          sequences of a recurrent network as one distribution
dynamics      a model with latent states, and one run of it
latent_path   paths of these states, and what they emit, as distributions
particles     what is expected of a step before it is seen
affine        linear-Gaussian dynamics: the Kalman smoother as a guide
"""
