"""The variational fit: what is climbed, and the steps up.

fit          `fit` itself: options, starting values, the model card
beginning    constants, a good start, and whether there is anything to climb
rows         the order in which rows are seen
picking      which family of guide suits, where that is left open
loop         the steps of one fit: minibatches, averaging, when to stop
course       the state of a fit between two steps, kept and gone on from
watching     reports to loggers, and loggers that write files
schedule     when to slow down, average and stop
step         from a pair and an objective to steps of Adam, as a graph or plain Pyro
folding      what does not change between steps, worked out once
adam         Adam, as operations that a graph can hold
objective    the bounds, chosen from the trace
exact        is the guide the posterior already?
doubt        what is said beside "converged" of a guide far from the posterior
search       where a guide starts in a pair that suggests nothing
settled      whether a guide stands where the ELBO is highest
falling      whether a bound that is drawn anew at each step still rises
held_out     which rows are held out to stop early by
keeping      a start in closed form, kept where steps lead no higher
fisher       first widths of many latents, from gradients of single rows
curvature    second derivatives: first widths of a guide, and the Laplace guide
"""
