"""Asking a network: the chest clinic of Lauritzen & Spiegelhalter, with tables known and with tables learned.

A patient is short of breath. Is it bronchitis, lung cancer or tuberculosis? The published network answers exactly, for
one patient or for every row of a frame, and says which state of everything else explains it best. Then the tables are
learned from 1,000 patients with three in ten cells missing, and the answers come with intervals. At the end: what
seeing a healthy lung tells about smoking, and what making it healthy tells (nothing).

    python examples/query_network.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

import inference
import zoo
from inference.gallery import network
from inference.questions.queries import query
from zoo.graphs.bayesian_network import BayesianNetwork

BRONCHITIS = 0.8340  # P(bronchitis | short of breath), by hand from the published tables


def main(out: Path = Path("out")) -> float:
    clinic = BayesianNetwork.from_bif("asia")
    breathless = {"dysp": "yes"}
    for illness in ("bronc", "lung", "tub"):
        print(query(clinic, None, illness, breathless))
    exact = query(clinic, None, "bronc", breathless)["yes"]
    print(inference.explain(clinic, breathless))
    ward = pd.DataFrame({"dysp": ["yes", "yes", "no"], "xray": ["yes", "no", None]}, index=["Ann", "Ben", "Cat"])
    print(f"\nThree patients at once:\n{query(clinic, None, 'lung', given=ward).frame()}")

    torch.manual_seed(0)
    patients = clinic.simulate(1000)[0].x
    patients[torch.rand(patients.shape) < 0.3] = torch.nan
    learner = zoo.create("bayesian_network", columns=clinic.schema, edges=clinic.edges)
    print(inference.fit(learner, patients, steps=100, batch_size=1000, compile="off", progress=False))
    posterior = inference.draw(learner, patients, draws=200)
    print("\nLearned from incomplete records:")
    print(query(learner, posterior, "bronc", breathless))

    smokers = [query(clinic, None, "smoke")["yes"]]
    smokers += [
        query(clinic, None, "smoke", {"lung": "no"})["yes"],
        query(clinic, None, "smoke", do={"lung": "no"})["yes"],
    ]
    print("\nSmokers: {:.1%} of all, {:.1%} of those without cancer, {:.1%} if nobody could get it.".format(*smokers))

    out.mkdir(parents=True, exist_ok=True)
    network.network(learner, posterior, breathless).savefig(out / "query_network.png", dpi=150)
    print(f"Can it be believed? {inference.check(learner, patients, posterior, run=False)}")
    assert abs(exact - BRONCHITIS) < 5e-5, f"expected {BRONCHITIS}, got {exact:.5f}"
    return exact


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
