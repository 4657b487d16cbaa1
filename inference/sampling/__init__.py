"""Markov chain Monte Carlo over any pair.

sample        `sample` of a pair
options       what it can be asked for, checked
engine        starts, warm-up and draws on any log density, and its `Sampled`
drawing       draws after warm-up: until they are enough, again in smaller steps where they diverge
density       what of a log density chains need
potential     that of a pair, as a function of flat, unconstrained latents
centring      coordinates of latents whose scale other latents decide
course       the state of chains between two transitions, kept and gone on from
chains        C chains: where they stand, and one transition
hamiltonian   the leapfrog and its trajectories
warmup        metric, step size and length, until the chains agree
adaptation    how these are tuned from the moves of many chains
lengths       which trajectories pay best
mixing        R-hat, and what keeps chains apart
corners       where transitions diverge, in words
effective     effective sample sizes, and whether draws are enough
starts        where chains start
number        how many there are
worth         whether a leapfrog step is worth compiling
labels        components, or states, of one chain matched with another's
nuts          Pyro's No-U-Turn sampler, as a reference
writer        draws as they come, in the supports of their latents
store         where they are kept: in memory or in files
"""
