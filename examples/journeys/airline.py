"""A monthly series, continued: forecasts with their dates, how good they would have been, and a picture of both.

Passengers of airlines, in thousands, from 1949 to 1960 (Box and Jenkins 1976): the logarithm's change over a year.
"""

import inference
import zoo

flights = zoo.datasets.load("airpassengers")
pair = zoo.create("autoregressive", order=1, seasonal=12, seasonal_difference=1, transform="log").double()
print(inference.fit(pair, flights))
print(inference.forecast_table(pair, flights, horizon=12))
print(inference.backtest(pair, flights, horizon=12, folds=13))
inference.plot(pair, flights).savefig("airline.png")
