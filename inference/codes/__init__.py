"""Codes of single observations: reading, encoding, refining them, and how far a guide is from the posterior.

reading      what the trace says of local latents, and densities at given values: the rest stands on it
encoding     codes of observations, and what codes stand for
imputation   missing cells, through the codes of observed ones
completed    tables with the imputed cells in them, as their users wrote them
pooling      estimates from several completed tables as one
collapse     which dimensions of a code are used at all
refinement   a Gaussian for each observation, started at the encoder
gaps         what the encoder loses, and to what; log p(x_n)
annealing    annealed importance sampling, for `gaps`
anomaly      how strange each observation is, by the bound or by log p(x_n)
bits         that in bits per dimension
sleep        an encoder trained on what the model makes up
"""
