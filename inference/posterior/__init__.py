"""Draws of the latents, their scores, and their way to ArviZ."""
