"""Mixtures: one discrete component an observation, summed out exactly."""
