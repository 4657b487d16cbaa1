"""Hidden Markov chains: kernels, recursions, emissions, expectation-maximisation."""
