"""The Bayesian network Interchange Format.

file      reading and writing
grammar   its blocks and tables
tokens    its words and marks, with their lines
"""
