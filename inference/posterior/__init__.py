"""Draws of the latents, their scores, and their way to ArviZ.

kept         draws in files
latents      `Posterior`: draws of the latents of a pair
check        the one door for a posterior: it is the pair's, whole and finite
draws        draws from guide or prior, and what they predict
likelihood   pointwise log-likelihoods, probabilities of classes
psis         weights of draws, Pareto-smoothed: k̂, effective share
khat         how far a guide can be believed
loo          leave-one-out scores and draws, corrected by the weights p / q
comparing    models of the same data, by those scores
novelty      how strange an observation is
units        draws said in the data's own units
export       a posterior as an ArviZ container, with names
containers   named arrays in the container of whichever ArviZ is installed
"""
