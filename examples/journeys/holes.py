"""A mixed table with holes, filled: every missing cell as a most probable value and an interval.

344 penguins of three species, 19 cells of whom are missing (palmerpenguins).
"""

from palmerpenguins import load_penguins

import inference

penguins = load_penguins()
pair = inference.pair_for("naive_bayes_vae", penguins)
print(inference.fit(pair, penguins))
filled = inference.impute(pair, penguins, draws=200)
print(filled.frame().loc[penguins.isna().any(axis=1)])
inference.plot(pair, penguins).savefig("holes.png")
