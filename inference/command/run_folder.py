"""What `zoo fit` leaves behind: weights, metrics as JSON, posterior.nc, pictures, and a summary in words."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.command.latents import in_order, table
from inference.command.terminal import escaped
from inference.drawing import plane, plots, style
from inference.fitting.fit import Fit
from inference.gallery import predictive as check_of
from inference.posterior import containers
from inference.posterior.draws import Posterior, draw
from inference.posterior.export import to_arviz
from inference.posterior.khat import KHat, khat
from inference.posterior.likelihood import has_continuous_locals, log_likelihood
from inference.posterior.loo import leave_one_out, weights_of
from inference.posterior.psis import threshold
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.state.files import sync, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LAST = "config.json"  # without it `zoo.load` refuses a folder: it comes last, and goes first
FILES = (LAST, "model.safetensors", "README.md", "metrics.json", "posterior.nc", "summary.txt")
PICTURES = ("loss", "predictive", "posterior", "density", "curve", "latent_*")
UNFINISHED = ".unfinished"


def check(folder: Path, *, replace: bool = False) -> None:
    """Refuse, before any work, a folder that holds something.

    Raises:
        ValueError: the path is a file, or a folder that holds an earlier run (unless `replace`) or something else.
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise ValueError(f"--out {folder}: a file is in the way")
        return
    found = sorted(path.name for path in folder.iterdir() if path.name != UNFINISHED)
    if found and LAST not in found:
        raise ValueError(f"--out {folder}: the folder is not empty ({found[0]}) and holds no earlier run")
    if found and not replace:
        raise ValueError(f"--out {folder}: an earlier run is there; --replace writes over it")


@contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to write a run into, whose files move to `folder` once all are there.

    Until then, and after a failure or a kill, `folder` holds nothing that could be taken for a run, or the earlier one.
    """
    check(folder, replace=replace)
    try:
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        # Within the folder, so that it is on the same disk; of the same name, which the model card shows.
        inside = folder / UNFINISHED / (folder.resolve().name or "run")
        shutil.rmtree(inside.parent, ignore_errors=True)  # left by a run that was killed
        inside.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written ({error.strerror})") from error
    try:
        yield inside
        for path in _of_a_run(folder):
            path.unlink()
        for path in sorted(inside.iterdir(), key=lambda path: (path.name == LAST, path.name)):
            path.replace(folder / path.name)
        sync(folder)
    finally:
        shutil.rmtree(inside.parent, ignore_errors=True)
        if fresh:
            with suppress(OSError):  # it is empty after a failure only
                folder.rmdir()


def _of_a_run(folder: Path) -> list[Path]:
    """The files that an earlier run left, config.json first."""
    plain = [folder / name for name in FILES if (folder / name).is_file()]
    return plain + [path for name in PICTURES for path in folder.glob(f"{name}.png")]


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


def write_run(
    folder: Path,
    pair: ModelGuide,
    data: Batch,
    fit: Fit,
    *,
    draws: int,
    source: str,
    columns: Sequence[str] = (),
    target: str = "y",
    seed: int = 0,
) -> str:
    """Write the run of a fitted pair into an empty `folder`; returns the summary.

    Args:
        folder: where.
        pair: the fitted pair.
        data: what it was fitted to; diagnostics and pictures look at the first 2,000 observations.
        fit: what `inference.fit` returned.
        draws: posterior draws to keep.
        source: name of the data, for the card.
        columns: names of the columns of x.
        target: what y is called.
        seed: seeds draws and diagnostics.
    """
    most = settings.summary_rows
    some = data if data.size <= most else data.select(slice(0, most))
    some = some.but(total=some.size)
    posterior = draw(pair, some, draws, seed=seed)
    scores = log_likelihood(pair, posterior, some, seed=seed)
    with _quiet():
        believed = khat(pair, some, seed=seed)
        known = believed.globals is not None and math.isfinite(believed.globals)
        exported = to_arviz(
            pair,
            posterior,
            some,
            log_likelihood=scores,
            coords=labels(pair, some, columns),
            attrs={"data": source, **({"khat": believed.globals} if known else {})},
            seed=seed,
        )
        metrics = _metrics(fit, posterior, believed, exported, scores.flatten(0, 1).double().cpu().numpy())
        summary = _summary(pair, some, posterior, exported, believed, metrics)
    pair.card["data"] = {"name": source, **pair.card.get("data", {})}
    pair.card["metrics"] = metrics
    pair.save(folder)
    write(folder / "metrics.json", (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
    write(folder / "summary.txt", summary.encode())
    containers.save(exported, folder / "posterior.nc")
    for name, figure in _pictures(pair, posterior, some, fit, exported, columns, target):
        style.literal(figure).savefig(folder / f"{name}.png")
    return summary


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
    fit: Fit, posterior: Posterior, believed: KHat, exported: Any, scores: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Numbers of the run, in nats per observation; what is not finite is left out."""
    best = scores.max(0)
    metrics: dict[str, Any] = {
        "elbo_per_observation": -float(np.nanmean(fit.losses[-max(1, len(fit.losses) // 20) :]))
        if len(fit.losses)
        else None,
        "log_score_per_observation": float((best + np.log(np.exp(scores - best).mean(0))).mean()),
    }
    # Of a single observation nothing is left to predict it from; and Pareto smoothing wants a tail.
    if scores.shape[1] > 1 and posterior.globals and len(scores) >= settings.loo_draws:
        left_out = leave_one_out(scores, weights_of(posterior))  # draws of a guide count by p / q
        metrics["elpd_loo_per_observation"] = left_out.elpd / scores.shape[1]
        metrics["pareto_k_threshold"] = left_out.threshold
        metrics["pareto_k_above_threshold"] = left_out.unsure
    if fit.validation:
        metrics["held_out_bound_per_observation"] = -min(score for _, score in fit.validation)
    metrics |= _believed(believed)
    metrics = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return {
        **metrics,
        "observations": containers.observations(exported),
        "steps": fit.steps,
        "epochs": round(fit.epochs, 2),
        "seconds": round(fit.seconds, 2),
        "skipped_steps": fit.skipped,
        "stopped": fit.reason,
        "seed": fit.seed,
    }


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
    "held_out_bound_per_observation": "bound on the rows held out, nats per observation",
    "log_score_per_observation": "log density of the data under the posterior, nats per observation",
    "elpd_loo_per_observation": "the same with each observation left out (PSIS-LOO): what to expect of new data",
    "pareto_k_above_threshold": "observations whose leave-one-out score is unsure (Pareto k above {threshold:.2f})",
}


def _summary(
    pair: ModelGuide, data: Batch, posterior: Posterior, exported: Any, believed: KHat, metrics: dict[str, Any]
) -> str:
    names = in_order(pair, sorted(posterior.globals or posterior.draws))
    lines = [f"{pair.name}: posterior of {', '.join(names)}", ""]
    most = settings.summary_lines if posterior.globals else settings.summary_lines // 4
    if names:
        lines += [*table(exported, names, most), ""]
    for name, words in _WORDS.items():
        if name in metrics:
            value, said = metrics[name], words.format(threshold=metrics.get("pareto_k_threshold", math.nan))
            lines.append(f"{value:10.4f}  {said}" if isinstance(value, float) else f"{value:10d}  {said}")
    lines += ["", f"{metrics['steps']} steps in {metrics['seconds']} s; stopped: {metrics['stopped']}", str(believed)]
    return escaped("\n".join(lines)) + "\n"  # names of columns may hold anything


def _pictures(
    pair: ModelGuide,
    posterior: Posterior,
    data: Batch,
    fit: Fit,
    exported: Any,
    columns: Sequence[str],
    target: str,
) -> Iterator[tuple[str, Figure]]:
    """Pictures chosen by what the posterior and the data are."""
    if fit.steps and np.isfinite(fit.losses).any():
        yield "loss", plots.loss_curve(fit)
    drawn = {str(name): values.values for name, values in exported["posterior_predictive"].data_vars.items()}
    drawn = {name: values.reshape(-1, *values.shape[2:]) for name, values in drawn.items()}  # chain and draw joined
    few = {name: values[:: -(-len(values) // 100)] for name, values in drawn.items()}
    yield "predictive", check_of.predictive(pair, data, few, columns=columns, target=target)
    if "y" in drawn and data.x is not None and data.x.shape[1:] == (1,) and drawn["y"].ndim == 2:
        names = (columns[0] if columns else "x", target)
        yield "curve", plots.predictive_band(data.x, data.y, drawn["y"], names=names)
    if posterior.globals:
        latents = {name: exported["posterior"][name] for name in in_order(pair, sorted(posterior.globals))}
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


def _plane(pair: ModelGuide, data: Batch) -> bool:
    """Whether the pair models points of the plane: two numbers that may be any."""
    if data.x is None or data.x.shape[1:] != (2,):
        return False
    site = pair.sites(data.select(slice(0, 1))).get("x")
    return (
        site is not None and site.observed and all(bool(site.fn.support.check(site.value * 0 - v)) for v in (-0.5, 0.5))
    )


def _entries(variable: Any) -> list[str]:
    """What to call the entries of an xarray variable with dims chain, draw, …: `locs[0, waiting]`."""
    dims = variable.dims[2:]
    if not dims:
        return [str(variable.name)]
    each = itertools.product(*(variable.coords[dim].values for dim in dims))
    return [f"{variable.name}[{', '.join(map(str, entry))}]" for entry in each]


def log_density(pair: ModelGuide, posterior: Posterior, data: Any) -> Any:
    """Log posterior predictive density of each observation, (N,): the mean over draws of its likelihood."""
    import torch

    given = torch.as_tensor(data) if isinstance(data, np.ndarray) else data
    scores = log_likelihood(pair, posterior, given).flatten(0, 1)
    return scores.logsumexp(0) - math.log(len(scores))
