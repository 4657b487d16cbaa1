"""Soft decision trees."""
