"""Roads to a posterior, and the evidence that each must show.

infer        `infer`: the cheapest road whose evidence holds, for pairs
climbing     roads one after the other
grounds      what is told of a posterior, and why to believe it
judging      chains as evidence
roads        the Gaussian and the tempered road, each with its evidence
scouting     whether there are other modes: points led uphill from all over
covering     whether draws lie in the modes that are known
streaming    the Gaussian road for more rows than it can read often
variational  a guide fitted in steps, judged by its weights over all rows
labelling    labels that a model does not tell apart, in one order
folding      the evidence of all their orders from draws of one
gaussian     a normal distribution near the posterior
paths        Newton paths from several starts, the best bound on each
matching     batch and match, then the bound itself
weighing     draws, their importance weights, and what they correct
evaluating   a density at many points, by graphs of few shapes

tempered     sequential Monte Carlo from the prior, or a Gaussian, to the posterior
tempering    the densities in between
particles    their weights, temperatures and resampling
modes        modes of a cloud of points, and a mixture of Gaussians with one for each
bridge       bridge sampling
evidence     `log_evidence`
comparing    `compare_evidence`
"""
