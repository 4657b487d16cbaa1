"""What scoring leaves behind: metrics as JSON, posterior.nc, pictures, and a summary in words."""

from __future__ import annotations

import io
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.command import exchange
from inference.command.exchange import Run
from inference.command.latents import in_order, table
from inference.command.scoring import Scored
from inference.command.terminal import escaped
from inference.data.check import check
from inference.drawing import plane, plots, style
from inference.fitting.fit import Fit
from inference.gallery import observations
from inference.gallery import predictive as check_of
from inference.gallery.panels import as_pixels
from inference.posterior import containers
from inference.posterior.draws import Posterior
from inference.posterior.export import to_arviz
from inference.posterior.khat import KHat
from inference.posterior.likelihood import has_continuous_locals, log_likelihood
from inference.posterior.loo import leave_one_out, weights_of
from inference.posterior.psis import LEAST, threshold
from inference.posterior.units import entries
from zoo.abilities import InUnits, Text
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.state.files import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def follow(label: str = "", seconds: float = 10.0) -> Callable[[int, float, ModelGuide], None]:
    """A callback for `fit` that prints the loss now and then, where no progress bar can be seen."""
    began = told = time.perf_counter()

    def callback(step: int, loss: float, _pair: ModelGuide) -> None:
        nonlocal told
        now = time.perf_counter()
        if now - told > seconds and not sys.stderr.isatty():
            told = now
            where = f"  {label}{': ' if label else ''}step {step + 1}, {now - began:.0f} s"
            print(f"{where}, loss {loss:.3f} per observation", flush=True)

    return callback


def write_scores(
    run: Run,
    pair: ModelGuide,
    scored: Scored,
    *,
    columns: Sequence[str] = (),
    target: str = "y",
    seed: int = 0,
) -> str:
    """Put the scores of the run's model into its folder; returns the summary.

    Args:
        run: the folder, which holds the model.
        pair: the model, whose card takes the metrics.
        scored: what `inference.command.scoring.score` found.
        columns: names of the columns of x.
        target: what y is called.
        seed: seeds what is drawn for ArviZ and the pictures.
    """
    some, believed, posterior = scored.some.batch, scored.believed, scored.posterior
    with _quiet():
        known = believed.globals is not None and math.isfinite(believed.globals)
        exported = to_arviz(
            pair,
            posterior,
            scored.some,
            log_likelihood=scored.scores,
            predictive=_affordable(scored),
            coords=labels(pair, some, columns) | _numbers(scored),
            attrs={
                "data": pair.card["data"]["name"],
                "observations": scored.given.size,
                **({"khat": believed.globals} if known else {}),
            },
            seed=seed,
        )
        metrics = _metrics(pair.card, posterior, believed, scored, scored.scores.flatten(0, 1).double().cpu().numpy())
        summary = _summary(pair, some, posterior, exported, believed, metrics, scored.notes)
    before = pair.card["metrics"]
    pair.card["metrics"] = metrics
    try:
        with run.scores(pair) as folder:
            write(folder / exchange.METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
            write(folder / "summary.txt", summary.encode())
            containers.save(exported, folder / "posterior.nc")
            for name, figure in _pictures(pair, posterior, some, exported, columns, target):
                picture(folder / f"{name}.png", figure)
    except BaseException:
        pair.card["metrics"] = before
        raise
    return summary


def draw_loss(folder: Path, fit: Fit) -> None:
    """The loss curve of a fit, beside its model."""
    if fit.steps and np.isfinite(fit.losses).any():
        picture(folder / exchange.LOSS, plots.loss_curve(fit))


def picture(path: Path, figure: Figure) -> None:
    """Write a picture, whole or not at all."""
    content = io.BytesIO()
    style.literal(figure).savefig(content)
    write(path, content.getvalue())


def _affordable(scored: Scored) -> bool | int:
    """Predictive draws that fit the time and what is kept by default."""
    if scored.predictive is True:
        return True
    fields = [getattr(scored.some.batch, name) for name in scored.some.observed]
    each: int = sum(value.numel() for value in fields if value is not None)
    return max(1, min(int(scored.predictive), settings.export_cells // max(1, each)))


def _numbers(scored: Scored) -> dict[str, Sequence[int]]:
    """Which rows a sample holds, counted from 0."""
    return {} if len(scored.rows) == scored.given.size else {"obs": scored.rows.tolist()}


@contextmanager
def _quiet() -> Iterator[None]:
    """ArviZ warns of high Pareto k; the summary says it in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def labels(pair: ModelGuide, data: Batch, columns: Sequence[str]) -> dict[str, Sequence[str]]:
    """Column names as labels of the last dim of x."""
    dims = pair.dims.get("x", ())
    if data.x is None or not dims or len(dims) != data.x.ndim - 1 or data.x.shape[-1] != len(columns):
        return {}
    return {dims[-1]: list(columns)}


def _metrics(
    card: dict[str, Any], posterior: Posterior, believed: KHat, scored: Scored, scores: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Numbers of the run, in nats per observation; what is not finite is left out. Those of the fit are its card's."""
    best, fit, before = scores.max(0), card["fit"], card["metrics"]
    metrics: dict[str, Any] = {
        "elbo_per_observation": before.get("elbo_per_observation"),
        "log_evidence_per_observation": before.get("log_evidence_per_observation"),
        "log_score_per_observation": float((best + np.log(np.exp(scores - best).mean(0))).mean()),
    }
    if as_pixels(scored.some) and scored.some.sites["x"].discrete:  # a probability, of which bits can be told
        pixels = scored.some.sites["x"].event_shape.numel()
        metrics["bits_per_dimension"] = -metrics["log_score_per_observation"] / pixels / math.log(2)
    if isinstance(scored.some.pair, Text) and scored.some.pair.alphabet is not None:
        lengths: Any = scored.some.batch.lengths
        nats = -metrics["log_score_per_observation"] * scores.shape[1]
        metrics["bits_per_character"] = nats / float(lengths.sum()) / math.log(2)
    # Of a single observation nothing is left to predict it from; and Pareto smoothing wants a tail.
    if scores.shape[1] > 1 and posterior.globals and len(scores) >= max(LEAST, settings.loo_draws):
        weights = weights_of(posterior) if posterior.stats else None  # draws of a guide count by p / q
        left_out = leave_one_out(scores, weights)
        metrics["elpd_loo_per_observation"] = left_out.elpd / scores.shape[1]
        metrics["pareto_k_threshold"] = left_out.threshold
        metrics["pareto_k_above_threshold"] = left_out.unsure
    metrics["held_out_bound_per_observation"] = before.get("held_out_bound_per_observation")
    metrics |= _believed(believed)
    metrics = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return {
        **metrics,
        "observations": scored.given.size,
        "observations_scored": len(scored.rows),
        "draws": posterior.chains * posterior.size,
        **{name: fit[name] for name in _OF_FIT if name in fit},
        "seed": card["seed"],
    }


_OF_FIT = ("steps", "epochs", "seconds", "skipped_steps", "stopped", "guide", "road", "trusted")


def _believed(khat: KHat) -> dict[str, Any]:
    """k̂, the threshold it is held against, and the effective share of the weights, which k̂ does not tell."""
    found: dict[str, Any] = {}
    if khat.globals is not None:
        found |= {"khat": khat.globals, "khat_threshold": threshold(khat.draws), "effective_share": khat.share}
    if khat.locals is not None:
        found |= {
            "khat_local_median": float(np.median(khat.locals)),
            "khat_local_threshold": threshold(khat.particles),
            "khat_local_share_reliable": float(np.asarray(khat.reliable).mean()),
            "effective_share_local_median": float(np.median(np.asarray(khat.local_share))),
        }
    return found


_WORDS = {
    "elbo_per_observation": "bound (ELBO) reached, nats per observation",
    "log_evidence_per_observation": "log evidence, nats per observation",
    "held_out_bound_per_observation": "bound on the rows held out, nats per observation",
    "log_score_per_observation": "log density of the data under the posterior, nats per observation",
    "elpd_loo_per_observation": "the same with each observation left out (PSIS-LOO): what to expect of new data",
    "bits_per_dimension": "bits for each pixel, of the log density of the data",
    "bits_per_character": "bits for each character, of the text that was read",
    "pareto_k_above_threshold": "observations whose leave-one-out score is unsure (Pareto k above {threshold:.2f})",
}


def _summary(
    pair: ModelGuide,
    data: Batch,
    posterior: Posterior,
    exported: Any,
    believed: KHat,
    metrics: dict[str, Any],
    notes: Sequence[str] = (),
) -> str:
    names = _shown(pair, posterior, exported)
    lines = [f"{pair.name}: posterior of {', '.join(names)}", ""]
    most = settings.summary_lines if posterior.globals else settings.summary_lines // 4
    if names:
        lines += [*table(exported, names, most), ""]
    for name, words in _WORDS.items():
        if name in metrics:
            value, said = metrics[name], words.format(threshold=metrics.get("pareto_k_threshold", math.nan))
            lines.append(f"{value:10.4f}  {said}" if isinstance(value, float) else f"{value:10d}  {said}")
    if "road" in metrics:
        lines += ["", str(pair.card["fit"]["told"])]
        lines += [str(believed)] if believed.globals is not None else []
    else:
        lines += ["", f"{metrics['steps']} steps in {metrics['seconds']} s; stopped: {metrics['stopped']}"]
        lines += [f"guide {metrics['guide']}"] if "guide" in metrics else []
        lines.append(str(believed))
    lines += [f"note: {note}" for note in notes]
    return escaped("\n".join(lines)) + "\n"  # names of columns may hold anything


def _pictures(
    pair: ModelGuide,
    posterior: Posterior,
    data: Batch,
    exported: Any,
    columns: Sequence[str],
    target: str,
) -> Iterator[tuple[str, Figure]]:
    """Pictures chosen by what the posterior and the data are."""
    drawn = {str(name): values.values for name, values in exported["posterior_predictive"].data_vars.items()}
    drawn = {name: values.reshape(-1, *values.shape[2:]) for name, values in drawn.items()}  # chain and draw joined
    few = {name: values[:: -(-len(values) // 100)] for name, values in drawn.items()}
    yield "predictive", check_of.predictive(pair, data, few, columns=columns, target=target)
    if as_pixels(given := check(pair, data)):
        yield "samples", observations.samples(pair)
        if given.continuous_locals:
            yield "reconstructions", observations.reconstructions(pair, given)
    if "y" in drawn and data.x is not None and data.x.shape[1:] == (1,) and drawn["y"].ndim == 2:
        names = (columns[0] if columns else "x", target)
        yield "curve", plots.predictive_band(data.x, data.y, drawn["y"], names=names)
    if posterior.globals:
        latents = {name: exported["posterior"][name] for name in _shown(pair, posterior, exported)}
        yield "posterior", plots.marginals(latents, labels={name: _entries(latents[name]) for name in latents})
    for name in sorted(posterior.local):
        codes = posterior[name].mean((0, 1))
        if codes.ndim == 2:
            classes = data.y if data.y is not None and data.y.ndim == 1 else None
            yield f"latent_{name}", plane.latent_map(codes, classes)
    if _plane(pair, data) and not has_continuous_locals(pair, data):
        thinned = posterior.thin(50)
        names = (columns[0], columns[1]) if len(columns) == 2 else ("x[0]", "x[1]")
        yield "density", plane.mixture_density(data.x, lambda points: log_density(pair, thinned, points), names=names)


def _shown(pair: ModelGuide, posterior: Posterior, exported: Any) -> list[str]:
    """The latents of tables and pictures, in order; where they are said in the data's units, sigma for its square."""
    names = in_order(pair, sorted(posterior.globals or posterior.draws))
    if isinstance(pair, InUnits) and "coefficients" in exported["posterior"]:
        if "coefficients" not in names:  # of which the others are the inner form
            return ["coefficients"]
        names = [*(name for name in names if name != "variance"), "sigma"]
    return names


def _plane(pair: ModelGuide, data: Batch) -> bool:
    """Whether the pair models points of the plane: two numbers that may be any."""
    if data.x is None or data.x.shape[1:] != (2,):
        return False
    site = pair.sites(data.select(slice(0, 1))).get("x")
    return (
        site is not None and site.observed and all(bool(site.fn.support.check(site.value * 0 - v)) for v in (-0.5, 0.5))
    )


def _entries(variable: Any) -> list[str]:
    """What to call the entries of an xarray variable with dims chain, draw, …"""
    return entries(str(variable.name), {dim: variable.coords[dim].values for dim in variable.dims[2:]})


def log_density(pair: ModelGuide, posterior: Posterior, data: Any) -> Any:
    """Log posterior predictive density of each observation, (N,): the mean over draws of its likelihood."""
    import torch

    given = torch.as_tensor(data) if isinstance(data, np.ndarray) else data
    scores = log_likelihood(pair, posterior, given).flatten(0, 1)
    return scores.logsumexp(0) - math.log(len(scores))
