"""What some families can be asked.

sequences    hidden states and the steps ahead, of models of sequences
queries      P(variables | evidence) and interventions, of networks
evidence     what a network is told: a row, or many
rows         answers to many rows
explanations the most probable explanation of evidence
profile      what sets clusters apart, column by column
tables       conditional probabilities by name
texts        how well a text was guessed, and what is written
importance   which covariates matter, of regressions
explained    mean and variance of a response under each draw
effects      what a unit or a level of a covariate changes
predictions  what is expected of rows, and R²
coefficients the regression table, in the data's units and names
"""
