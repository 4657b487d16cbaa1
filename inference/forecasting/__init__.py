"""Forecasts as a person reads them, and how good they would have been.

table      forecasts with dates and names
backtest   forecasts from past origins, scored by what came
naive      the seasonal-naive forecast that is scored beside them
scores     CRPS, pinball loss
"""
