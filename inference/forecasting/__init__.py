"""Forecasts as a person reads them.

`table` gives them dates and names.
"""
