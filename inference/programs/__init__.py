"""Any Pyro program, as people write it: `zoo.program(model)` in the place of a pair.

outline      what a program holds: latents, observations, plates, from one run of it
rows         the same with all rows of plates that take a part
runs         ordinary runs of it by Pyro, and what differs between them
observations whether what was seen lies in its support
rows         plates that take a part of their rows, at all of them
masks        which cells of a site count
filling      cells that a mask hides and that are no number
offending    sites of no finite density, by their own names
reached      where in a program a run of it failed
visiting     one run of a program on flat, unconstrained latents
roots        matrices without a root, and gradients of normal densities by their covariance
contracting  log densities of a run whose discrete latents are summed out
potential    the log density that chains walk on
sample       gradient MCMC
infer        the cheapest road whose evidence holds
fit          variational fit, draws of the guide and their weights
flat         a program as a pair of one observation, which all that fits pairs takes
matching     whether what a guide draws fits the sites of its model
guided       a program with a guide of the user's own
laplace      an automatic Laplace guide, of the curvature where it stands
scoring      gradients of such a guide's draws that have none themselves
parameters   what is optimised behind `pyro.param`
draws        prior and posterior predictive, pointwise log-likelihood
discrete     posterior probabilities of latents that were summed out
checks       findings about a posterior, and a verdict
evidence     log p(data) by every means
scores       observations left out, models compared
export       to ArviZ
"""
