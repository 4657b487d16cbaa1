"""Columns of mixed types.

columns   where they stand by kind, their centres and units
rows      a row as a distribution, missing cells left out
labels    labels that are known of some rows only
masses    probabilities of what columns hold between cuts, for compression
"""
