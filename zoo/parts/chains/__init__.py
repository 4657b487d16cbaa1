"""Hidden Markov chains.

chain              the chain as one distribution over sequences
emissions          log densities of steps under each state
transitions        priors of the transition matrix
baum_welch         expectation-maximisation
surroundings       what stands around each step, for its starts
tree               the sum over paths as a tree of matrix products: any device, any derivative
forward_backward   the same and its gradient, by loops on a CPU where numba is
kernels, two_ways, gaussian, features   these loops
native             their compilation
"""
