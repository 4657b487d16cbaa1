"""Soft decision trees.

soft_trees   gates of the nodes, the greedy tree, trees laid open for pictures
leaves       leaves given the gates, in closed form
tree_pair    what the pairs of one tree and of many share
"""
