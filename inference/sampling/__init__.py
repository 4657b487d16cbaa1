"""Markov chain Monte Carlo over any pair."""
