"""What models are built of; nothing here is registered, and `inference` never imports it.

constants      constants of a prior, in buffers
covariates     standardised, ranked, through random features; what a regression asks of its data
designs        what a regression asks of a design: its covariates, its classes, its rank
polynomials    of several covariates, orthonormal over a design
conditionals   a column given others, as compression takes it
factors        linear-Gaussian factors at their maximum likelihood
likelihoods    families of a cell, and layouts of series, that suit data: likelihoods, layouts
units          centre and unit of the data, in which priors and networks speak
missing        constraints that let NaN through
nets           networks of two or more models
given          a network of the user's own in the place of one of these
masked         networks whose outputs see only what comes before them
sequence       distributions over whole sequences, and their lengths
series         linear autoregression, missing steps integrated out
alike          whether several series are of one level and scale
differences    differences of a series as one autoregression of it
lags           of a seasonal autoregression, and how far back each lies
logged         positive series whose logarithms follow a distribution
chains/        hidden Markov chains
recurrent/     recurrent cells, paths of latent states
conjugate/     posteriors in closed form
em/            expectation-maximisation of Gaussian mixtures
tables/        columns of mixed types
trees/         soft trees
networks/      Bayesian networks, and their file format
"""
