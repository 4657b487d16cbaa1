"""Conjugate posteriors in closed form."""
