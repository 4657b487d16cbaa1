"""Your own model: one class, and every tool of the zoo works on it.

Eight schools (Rubin 1981). Each of eight schools coached its pupils for a test and reports an effect with its standard
error. How large are the effects in general, and how much do schools differ?

    mu      ~ Normal(0, 5)                                the mean effect, global
    tau     ~ HalfCauchy(5)                               how much true effects differ, global
    y_n     ~ Normal(mu, sqrt(tau^2 + x_n^2))             the effect reported by school n, x_n its standard error

The true effect of each school, theta_n ~ Normal(mu, tau) with y_n ~ Normal(theta_n, x_n), is integrated out above; it
comes back at the end, for given mu and tau it is Gaussian.

    python examples/own_pair.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor

import inference
import zoo
from zoo import Batch, ModelGuide, datasets, register


@register("eight_schools")  # now `zoo.create` knows it, and `zoo list` would if this file were in zoo/
class EightSchools(ModelGuide):
    """Random effects, integrated out (Rubin 1981; Gelman et al. 2013, section 5.5)."""

    def __init__(self, scale: float = 5.0) -> None:
        super().__init__(guide="multivariate")  # q(mu, log tau): one Gaussian
        self.register_buffer("scale", torch.tensor(scale))  # a buffer follows .double() and .to("cuda")

    def model(self, batch: Batch) -> Tensor:
        mu = pyro.sample("mu", dist.Normal(torch.zeros_like(self.scale), self.scale))
        tau = pyro.sample("tau", dist.HalfCauchy(self.scale))
        spread = (tau**2 + batch.x[:, 0] ** 2).sqrt()
        with batch.plate():  # one value for each observation; minibatches are scaled here
            return pyro.sample("y", dist.Normal(mu, spread), obs=batch.y)

    def inputs(self, n: int) -> Batch:
        """Standard errors to simulate schools with. A model that reads a field and does not observe it needs this."""
        return Batch(n, n, x=torch.full((n, 1), 12.0).to(self.scale))


def main(out: Path = Path("out")) -> float:
    data = datasets.load("eight_schools")
    pair = zoo.create("eight_schools").double()
    posterior = inference.infer(pair, data, draws=4000, progress=False)
    print(posterior)
    exported = inference.to_arviz(pair, posterior, data)
    print("\nWhat the posterior says, in points of the test:\n")
    print(az.summary(exported, var_names=["mu", "tau"], kind="stats").to_string())

    mu, tau = (posterior[name].reshape(-1, 1) for name in ("mu", "tau"))
    error, effect = data.x[:, 0], data.y
    trust = tau**2 / (tau**2 + error**2)  # (draw, school): how far a school's own report is believed
    theta = mu + trust * (effect - mu) + (trust.sqrt() * error) * torch.randn(trust.shape)
    print(
        f"\nSchool A reports {effect[0]:.0f} points. Beside the other seven, {theta[:, 0].mean():.0f} is more likely:"
    )
    print("its own report is uncertain, so it borrows from the others. The picture shows all eight.")

    out.mkdir(parents=True, exist_ok=True)
    picture(effect, error, theta).savefig(out / "own_pair.png", dpi=150)
    mean = mu.mean().item()
    print(f"Can it be believed? {inference.check(pair, data, posterior)}")
    assert abs(mean - 4.4) < 0.5, f"the mean effect is 4.4 (long MCMC runs), got {mean:.2f}"
    return mean


def picture(effect: Tensor, error: Tensor, theta: Tensor) -> Figure:
    """Each school's report and what is believed of its true effect, with two standard deviations."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    row = np.arange(len(effect))
    for shift, colour, label, loc, sd in (
        (0.12, "#999999", "reported", effect, error),
        (-0.12, "#0072B2", "believed", theta.mean(0), theta.std(0)),
    ):
        axes.errorbar(loc.numpy(), row + shift, xerr=2 * sd.numpy(), fmt="o", color=colour, label=label)
    axes.set_yticks(row, "ABCDEFGH"[: len(row)])
    axes.invert_yaxis()
    axes.set(xlabel="effect of coaching (points)", ylabel="school")
    axes.legend(frameon=False, loc="upper left")
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
