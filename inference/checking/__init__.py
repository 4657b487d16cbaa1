"""Can this posterior be believed? Findings, each a number beside its threshold, and one verdict.

door         `check` of a pair
calibrate    `calibrate`: data from the prior, draws of their posterior, ranks of the truth
calibration  what the ranks say
simulations  single simulations, here or in processes of their own; from the prior, or from a posterior
refits       one posterior after the other, what is recorded kept
joint        chains through the truth: faults of the model alone
encoded      codes of an encoder, without any fit
diary        what simulations gave, on the disk
parts        what is found of a pair and its data, part by part
findings     a finding, and what a list of them comes to: `Check`
chains       draws by MCMC: do they agree, are they enough, could they move
guides       draws of a guide: do their weights say that it is the posterior, and do chains that start from it stay
short        a short Hamiltonian run from a guide's draws
observed     what the posterior says of the data: leave-one-out, coverage of its predictions
predictive   where the data lie among predictions, of posterior and prior: PIT, rootogram, calibration of classes
bounds       bounds above the evidence, minibatches that weigh wrongly, gaps of encoders, idle components
restarts     fits that begin elsewhere, and where they end
held_out     rows that a fit has not seen, or should not have
sensitivity  what prior and likelihood each do to the posterior
uniformity   whether numbers from 0 to 1, or ranks, are uniform
"""
