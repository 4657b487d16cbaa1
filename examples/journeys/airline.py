"""A monthly series, continued: forecasts with their dates, how good they would have been, and a picture of both.

Passengers of airlines, in thousands, from 1949 to 1960 (Box and Jenkins 1976): the logarithm's change over a year, by
two months and two years before it, with Litterman's prior.
"""

import inference
import zoo

flights = zoo.datasets.load("airpassengers")
lags = {"order": 2, "seasonal": 12, "seasonal_order": 2, "products": True, "prior": "minnesota"}
pair = zoo.create("autoregressive", seasonal_difference=1, transform="log", steps=48, **lags).double()
print(inference.fit(pair, flights))
print(inference.forecast_table(pair, flights, horizon=12))
print(inference.backtest(pair, flights, horizon=12, folds=13))
inference.plot(pair, flights).savefig("airline.png")
