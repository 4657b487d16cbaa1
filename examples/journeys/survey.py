"""A survey table, regressed: coefficients and effects in the survey's own units, and how much they explain.

944 Americans asked in 1996: income (24 classes), age, years of education, and whom they would vote for (statsmodels).
"""

import statsmodels.api as sm

import inference

survey = sm.datasets.anes96.load_pandas().data
pair = inference.pair_for("polynomial_regression", survey, formula="income ~ age + educ + C(vote)", degree=1)
print(inference.fit(pair, survey))
posterior = inference.draw(pair, survey, draws=4000)
print(inference.coefficients(pair, posterior))
print(inference.effects(pair, posterior, survey))
print(inference.r_squared(pair, posterior, survey))
inference.plot(pair, survey, posterior).savefig("survey.png")
