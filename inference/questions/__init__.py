"""What some families can be asked.

sequences    hidden states and the steps ahead, of models of sequences
queries      P(variables | evidence) and interventions, of networks
evidence     what a network is told: a row, or many
rows         answers to many rows
explanations the most probable explanation of evidence
profile      what sets clusters apart, column by column
importance   which covariates matter, of regressions
coefficients the regression table, in the data's units and names
"""
