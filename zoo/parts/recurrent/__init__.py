"""Recurrent cells and paths through latent states."""
