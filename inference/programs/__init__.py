"""Any Pyro program, as people write it: `zoo.program(model)` in the place of a pair.

outline      what a program holds: latents, observations, plates, from one run of it
visiting     one run of a program on flat, unconstrained latents
contracting  log densities of a run whose discrete latents are summed out
mapped       a function of one point, recorded and run for many
unread       what torch reads a value for, without need
strided      views of memory, as selections
potential    the log density that chains walk on
sample       gradient MCMC
draws        prior and posterior predictive, pointwise log-likelihood
export       to ArviZ
"""
