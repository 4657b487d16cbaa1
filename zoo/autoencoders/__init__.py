"""Pairs with a continuous code for every observation."""
