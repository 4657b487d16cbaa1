"""Several threads in one process.

handlers    Pyro's handlers, plates and parameters, each thread's own
rows        plates that take all of their rows
randomness  random numbers of one's own, whatever other threads draw
turns       one thread at a time for each pair
"""
