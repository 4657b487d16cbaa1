"""Rows without labels, grouped: how many kinds there are, what sets them apart, and a map of them.

Thirteen measurements of 178 wines (scikit-learn); the map is coloured by the grape, which the mixture has not seen.
"""

from sklearn.datasets import load_wine

import inference

wine = load_wine(as_frame=True)
pair = inference.pair_for("gmm", wine.data, components=3)
print(inference.fit(pair, wine.data, method="em"))
print(inference.profile(pair, wine.data))
inference.plot(pair, wine.data, color=wine.target.astype(str)).savefig("clusters.png")
