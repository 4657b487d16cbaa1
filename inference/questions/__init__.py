"""What some families can be asked.

sequences    hidden states and the steps ahead, of models of sequences
queries      P(variables | evidence) and interventions, of networks
importance   which covariates matter, of regressions
coefficients the regression table, in the data's units and names
"""
