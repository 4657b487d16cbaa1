"""inference: what every model/guide pair shares, from data to ArviZ.

    pair_for: A pair that suits the data, not fitted yet: what is left out of its arguments is read off them, and said
    fit: Fit a pair by stochastic variational inference, in place; fitting again goes on from where it stands
    Fit: What happened in a fit
    Checkpoints: Where checkpoints go, how often, and how many stay
    CheckpointError: A run cannot go on from these checkpoints: damaged, of something else, or somebody is writing there
    NonFiniteError: Loss or gradient stayed NaN or infinite; no such step was applied. The message names the site
    CSVLogger: Writes a line a report into a file, which is whole after each of them
    TensorBoardLogger: Writes reports as scalars for TensorBoard: `tensorboard --logdir FOLDER` shows them
    Report: How a fit stands at a step
    KeptConstants: The pair's constants (centres, units, designs) are those of the data it was first fitted to
    LostPrecision: The pair's floating-point type keeps only part of how a column varies, as it lies far from zero

    infer: Draws of the posterior by the cheapest road whose evidence holds, and one line that says why to believe them
    Inferred: Draws of the posterior, which road they came by, and why they may be believed

    sample: Draw from the posterior of all continuous latents, global and local; discrete ones are summed out
    Sampled: Draws by MCMC, and how they came about
    reopen: The draws that `sample(store=folder)` wrote, mapped into memory; of a killed run those that were whole
    SamplingError: No chain can move, or none can start; the message says where and what to do

    draw: Draws from the guide: chain 1 of `draws`, global latents once, local latents for every row of the data
    predict: Draws of new observations under each draw of the latents: the posterior (or prior) predictive
    prior: Draws of the latents from the prior, for `data` (their number and covariates) or for a number of rows
    generate: New observations from the fitted model: each under a draw of the globals of its own
    Posterior: Draws of the latents of a pair
    log_likelihood: log p(x_n | global latents) at each draw, (chain, draw, N), in nats
    log_score: Log posterior predictive density of each observation, (N,), in nats
    assignments: Posterior probabilities of each enumerated local latent, averaged over draws: site -> (N, categories)
    novelty: A score for every observation, (N,): the higher, the stranger
    khat: Pareto k̂ and effective share of the weights, of the global guide and of each observation's local guide
    calibrate: Simulation-based calibration: are draws what they say, of data whose latents are known?
    Calibration: Ranks of what is known among draws, and what they say
    check: Can this posterior be believed? Findings, each a number beside its threshold, and one verdict
    Check: All findings about a posterior, and what they come to
    report: One self-contained page about a posterior: a verdict in plain words, pictures, numbers, where they come from
    Page: One self-contained page about a posterior, from `report`. Printed, it is the verdict and why
    loo: Leave-one-out scores by Pareto-smoothed importance sampling; draws of a guide are weighed by p / q
    compare: Models of the same data, the one first that is expected to predict new data best
    resample: Draws of a guide, resampled in proportion to their Pareto-smoothed weights p / q
    to_arviz: All that is known of a posterior, in the container of the ArviZ that is installed

    log_evidence: log p(x), the log density of all the data under the model, averaged over the prior
    Evidence: The log evidence of a model
    compare_evidence: Models of the same data by their evidence, the most probable first

    encode: Codes of each observation: mean, standard deviation, and draws if asked for
    decode: What observations with these codes are expected to be, averaged over the global latents
    reconstruct: Observations as their codes tell them, (N, *event): the expected x given z
    impute: Multiple imputations of the missing cells of a table, by sampling importance resampling of the codes
    pool: Estimates from K completed tables as one, by Rubin's rules (1987)
    Pooled: One answer from K completed tables, for each of P quantities; all arrays are (P,)
    active_units: Which dimensions of each code vary with the observation: Var_n E[z | x_n] > threshold
    code_kl: What each dimension of a code costs: KL(q(z_l | x_n) || p(z_l)), averaged over observations, in nats
    collapsed: What to tell the user about dimensions of a code that say nothing about the data; empty when all do
    refine: Fit a Gaussian to the codes of each observation, starting at the encoder's; the pair is not changed
    gap: What an encoder loses, and to what: log p(x_n), the best Gaussian's ELBO and the encoder's, for each row
    log_marginal: log p(x_n), (N,), in nats: the importance-weighted bound
    anomaly: How strange each observation is, a row each: `score`, minus its log density in nats, and the `sd` of that
    bits_per_dimension: Bits per dimension of each observation, and their mean
    Bits: Bits per dimension of N observations
    fit_by_simulation: Train the encoder on observations that the model makes up, in place

    query: P(variables | evidence), exact under each draw of the tables; with `do`, after an intervention
    marginals: P(node | evidence) of every node that is not given; arguments and errors are those of `query`
    Answer: P(variables | evidence), at each draw of the tables
    Answers: P(variables | evidence of row n), n = 1..N, at each draw of the tables
    tables: The conditional probabilities of a network by name, `P(dysp = yes | bronc = yes)`, with their uncertainty
    explain: The most probable explanation: the states of all other nodes that are most probable together (Pearl 1988)
    smooth: Probabilities of the hidden states at each step, given the whole sequence
    viterbi: The most probable sequence of states under each draw, (chain, draw, N, T); -1 past the end of a sequence
    forecast: The `horizon` steps after the last valid step of each sequence: one draw under each draw of the posterior
    forecast_table: The steps after the end of each series, with their dates: median, mean, and central intervals
    one_step_ahead: What each number is expected to be given those before it, and how far it may be off
    backtest: Scores of forecasts from past origins, beside the seasonal-naive forecast: coverage, CRPS, pinball, MAE
    Backtest: Scores of past forecasts of a pair, beside those of the seasonal-naive forecast
    sample_paths: One path of hidden states under each draw, from the posterior over states and parameters together
    coefficients: The regression table: estimate, deviation and interval of each term, in the data's units and names
    profile: What sets clusters apart: the mean of each column in each, its difference, and what it tells of the cluster
    Profile: What sets clusters apart
    effects: What one unit, or one level, of each covariate changes in the mean of y, on average over the rows
    predictions: What is expected of y at each row, a line a row: mean, deviation and interval, in the units of y
    r_squared: The share of the variance of y that the covariates explain: Bayesian R²
    perplexity: How hard a text was to guess, character by character: nats, bits per character, perplexity; line by line
    Perplexity: How hard each line of a text was to guess, character by character
    write: Texts that the model writes: each begins with the prompt and ends before a stop string, or at its length
    importance: Total effect of each covariate on the mean of y (on class probabilities), under each posterior draw

    compress: Write data into a file by the model, so that `decompress` gives them back to the bit
    decompress: The data that `compress` wrote: of the same kind, type and bits
    Compressed: What became of data in a file. Printed, it is its rates
    CompressionError: A compressed file is damaged, foreign, of a newer version, or needs a model that is another

    plot: A picture of a fitted pair and its data, of the kind that suits them best or that is asked for

    Estimator: An estimator of a registered pair

    settings: Budgets and sizes that a user may want to set; whole numbers, checked when they are assigned

Names load on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.settings import settings

if TYPE_CHECKING:
    from inference.checking.calibrate import Calibration, calibrate
    from inference.checking.door import Check, check
    from inference.codes.anomaly import anomaly
    from inference.codes.bits import Bits, bits_per_dimension
    from inference.codes.collapse import active_units, code_kl, collapsed
    from inference.codes.encoding import decode, encode, reconstruct
    from inference.codes.gaps import gap, log_marginal
    from inference.codes.imputation import impute
    from inference.codes.pooling import Pooled, pool
    from inference.codes.refinement import refine
    from inference.codes.sleep import fit_by_simulation
    from inference.compression.door import Compressed, compress, decompress
    from inference.compression.errors import CompressionError
    from inference.data.precision import LostPrecision
    from inference.data.suited import pair_for
    from inference.estimator import Estimator
    from inference.fitting.fit import Fit, fit
    from inference.fitting.loop import NonFiniteError
    from inference.fitting.watching import CSVLogger, Report, TensorBoardLogger
    from inference.forecasting.backtest import Backtest, backtest
    from inference.forecasting.table import forecast_table
    from inference.gallery.door import plot
    from inference.posterior.comparing import compare
    from inference.posterior.draws import Posterior, draw, generate, predict, prior
    from inference.posterior.export import to_arviz
    from inference.posterior.khat import khat
    from inference.posterior.likelihood import assignments, log_likelihood, log_score
    from inference.posterior.loo import loo, resample
    from inference.posterior.novelty import novelty
    from inference.questions.coefficients import coefficients
    from inference.questions.effects import effects
    from inference.questions.explanations import explain
    from inference.questions.importance import importance
    from inference.questions.predictions import predictions, r_squared
    from inference.questions.profile import Profile, profile
    from inference.questions.queries import Answer, marginals, query
    from inference.questions.rows import Answers
    from inference.questions.sequences import forecast, one_step_ahead, sample_paths, smooth, viterbi
    from inference.questions.tables import tables
    from inference.questions.texts import Perplexity, perplexity, write
    from inference.reporting.door import Page, report
    from inference.roads.comparing import compare_evidence
    from inference.roads.evidence import Evidence, log_evidence
    from inference.roads.grounds import Inferred
    from inference.roads.infer import infer
    from inference.running.checkpoints import CheckpointError, Checkpoints
    from inference.running.constants import KeptConstants
    from inference.sampling.sample import Sampled, SamplingError, sample
    from inference.sampling.store import reopen

_HOMES = {
    "fitting.fit": ("fit", "Fit"),
    "fitting.loop": ("NonFiniteError",),
    "fitting.watching": ("CSVLogger", "TensorBoardLogger", "Report"),
    "running.constants": ("KeptConstants",),
    "running.checkpoints": ("Checkpoints", "CheckpointError"),
    "data.precision": ("LostPrecision",),
    "data.suited": ("pair_for",),
    "roads.infer": ("infer",),
    "roads.grounds": ("Inferred",),
    "sampling.sample": ("sample", "Sampled", "SamplingError"),
    "sampling.store": ("reopen",),
    "posterior.draws": ("draw", "predict", "prior", "generate", "Posterior"),
    "posterior.likelihood": ("log_likelihood", "log_score", "assignments"),
    "posterior.novelty": ("novelty",),
    "posterior.khat": ("khat",),
    "checking.door": ("check", "Check"),
    "checking.calibrate": ("calibrate", "Calibration"),
    "reporting.door": ("report", "Page"),
    "posterior.loo": ("loo", "resample"),
    "posterior.comparing": ("compare",),
    "posterior.export": ("to_arviz",),
    "roads.evidence": ("log_evidence", "Evidence"),
    "roads.comparing": ("compare_evidence",),
    "codes.encoding": ("encode", "decode", "reconstruct"),
    "codes.imputation": ("impute",),
    "codes.pooling": ("pool", "Pooled"),
    "codes.collapse": ("active_units", "code_kl", "collapsed"),
    "codes.refinement": ("refine",),
    "codes.gaps": ("gap", "log_marginal"),
    "codes.sleep": ("fit_by_simulation",),
    "codes.anomaly": ("anomaly",),
    "compression.door": ("compress", "decompress", "Compressed"),
    "compression.errors": ("CompressionError",),
    "codes.bits": ("Bits", "bits_per_dimension"),
    "questions.queries": ("query", "marginals", "Answer"),
    "questions.rows": ("Answers",),
    "questions.explanations": ("explain",),
    "questions.tables": ("tables",),
    "questions.texts": ("perplexity", "Perplexity", "write"),
    "questions.sequences": ("smooth", "viterbi", "forecast", "one_step_ahead", "sample_paths"),
    "forecasting.backtest": ("backtest", "Backtest"),
    "forecasting.table": ("forecast_table",),
    "questions.importance": ("importance",),
    "questions.coefficients": ("coefficients",),
    "questions.profile": ("Profile", "profile"),
    "questions.effects": ("effects",),
    "questions.predictions": ("predictions", "r_squared"),
    "estimator": ("Estimator",),
    "gallery.door": ("plot",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Answers",
    "Backtest",
    "Bits",
    "CSVLogger",
    "Calibration",
    "Check",
    "CheckpointError",
    "Checkpoints",
    "Compressed",
    "CompressionError",
    "Estimator",
    "Evidence",
    "Fit",
    "Inferred",
    "KeptConstants",
    "LostPrecision",
    "NonFiniteError",
    "Page",
    "Perplexity",
    "Pooled",
    "Posterior",
    "Profile",
    "Report",
    "Sampled",
    "SamplingError",
    "TensorBoardLogger",
    "active_units",
    "anomaly",
    "assignments",
    "backtest",
    "bits_per_dimension",
    "calibrate",
    "check",
    "code_kl",
    "coefficients",
    "collapsed",
    "compare",
    "compare_evidence",
    "compress",
    "decode",
    "decompress",
    "draw",
    "effects",
    "encode",
    "explain",
    "fit",
    "fit_by_simulation",
    "forecast",
    "forecast_table",
    "gap",
    "generate",
    "importance",
    "impute",
    "infer",
    "khat",
    "log_evidence",
    "log_likelihood",
    "log_marginal",
    "log_score",
    "loo",
    "marginals",
    "novelty",
    "one_step_ahead",
    "pair_for",
    "perplexity",
    "plot",
    "pool",
    "predict",
    "predictions",
    "prior",
    "profile",
    "query",
    "r_squared",
    "reconstruct",
    "refine",
    "reopen",
    "report",
    "resample",
    "sample",
    "sample_paths",
    "settings",
    "smooth",
    "tables",
    "to_arviz",
    "viterbi",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"inference.{_HOME[name]}"), name)
    from zoo.config import nearest

    raise AttributeError(f"module 'inference' has no attribute '{name}'{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
