"""A function of tensors as a graph.

recording   the operations that a function does, written down
tidying     that graph without what is done in vain
running     that graph as it is, quickly
compiled    the function as that graph, run as it is or compiled
fallback    a graph where that works and pays, else the function as it is
"""
