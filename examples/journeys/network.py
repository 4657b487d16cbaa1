"""A network of causes, asked: what three patients probably have, each known in part, and what explains one best.

Eight nodes of a chest clinic (Lauritzen and Spiegelhalter 1988), read from a BIF file; yours is `from_bif("my.bif")`.
"""

import pandas as pd

import inference
from zoo.graphs.bayesian_network import BayesianNetwork

clinic = BayesianNetwork.from_bif("asia")
patients = pd.DataFrame({"smoke": ["yes", "no", None], "xray": ["yes", "yes", "no"], "dysp": ["yes", None, "no"]})
print(inference.query(clinic, None, "lung", given=patients).frame())
print(inference.explain(clinic, {"xray": "yes", "dysp": "yes"}))
inference.plot(clinic).savefig("network.png")
