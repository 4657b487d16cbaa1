"""A function of tensors as a graph.

recording   the operations that a function does, written down
leaving     values that leave torch while a function is recorded
narrowing   what is the same all along a dim, worked out once
tidying     that graph without what is done in vain
running     that graph as it is, quickly
compiled    the function as that graph, run as it is or compiled
fallback    a graph where that works and pays, else the function as it is
"""
