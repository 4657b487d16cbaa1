"""Trees, forests and support vector machines against scikit-learn's, by 10-fold cross-validation.

    python examples/benchmarks/regression.py [--quick] [--folds 10] [--only wine] [--methods svm] [--out FILE]

Tables: `diabetes`, `friedman` (Friedman #1: 500 rows, 10 covariates of which 5 count, noise of deviation 1), `wine`,
`breast_cancer` and `iris`. Every method sees the same folds and gives a predictive distribution of each row that it
was not fitted on; its log score is the mean log probability (density) of what was seen, in nats, higher is better.

    tree            scikit-learn's DecisionTree; depth and leaf size by the log score of an inner 5-fold, probabilities
                    of a leaf with one pseudo-row, noise of the deviation of the inner folds' errors
    forest          scikit-learn's RandomForest with its defaults; noise of the deviation of its out-of-bag errors,
                    probabilities with one pseudo-tree that does not know
    svc, svc_rbf    scikit-learn's SVC on standardised covariates with Platt's probabilities, C = 1
    decision_tree, random_forest, svm, svm_rbf      ours, each with one setting for all tables
    bart            pymc-bart with its defaults, 50 trees, where it is installed

Finished folds are kept in the JSON file, and not computed again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import torch
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine, make_friedman1
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import inference
import zoo
from zoo import Batch

NUMBERS = {
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "friedman": lambda: make_friedman1(500, n_features=10, noise=1.0, random_state=0),
}
CLASSES = {"wine": load_wine, "breast_cancer": load_breast_cancer, "iris": load_iris}
TABLES = [*NUMBERS, *CLASSES]
STEPS = {"decision_tree": 600, "random_forest": 800, "svm": 600, "svm_rbf": 600}
DRAWS = 400


def load(name):
    return NUMBERS[name]() if name in NUMBERS else CLASSES[name](return_X_y=True)


def folds(name, x, y, count):
    splitter = (KFold if name in NUMBERS else StratifiedKFold)(count, shuffle=True, random_state=0)
    return list(splitter.split(x, y))


# --- predictive distributions: log score and error of each row, and whether its 90 % interval holds it --------------


def gaussian(mean, sd, y):
    return {"log": norm.logpdf(y, mean, sd), "error": mean - y, "inside": np.abs(y - mean) <= 1.6448536 * sd}


def categorical(probs, y):
    return {"log": np.log(probs[np.arange(len(y)), y]), "error": probs.argmax(1) != y}


def tree(x, y, new, seen, numbers, seed):
    """A tree whose depth and leaf size an inner 5-fold chooses by log score."""
    make = DecisionTreeRegressor if numbers else DecisionTreeClassifier
    best, classes = (-math.inf,), None if numbers else int(y.max()) + 1
    splitter = (KFold if numbers else StratifiedKFold)(5, shuffle=True, random_state=seed)
    inner = list(splitter.split(x, y))
    for depth in (1, 2, 3, 4, 5, 7, None):
        for smallest in (1, 2, 5, 10, 20):
            fitted = make(max_depth=depth, min_samples_leaf=smallest, random_state=seed)
            if numbers:
                errors = np.concatenate([y[b] - fitted.fit(x[a], y[a]).predict(x[b]) for a, b in inner])
                sd = math.sqrt(np.mean(errors**2))
                score = norm.logpdf(errors, 0, sd).mean()
            else:
                sd = None
                parts = [categorical(smoothed(fitted.fit(x[a], y[a]), x[b], classes), y[b])["log"] for a, b in inner]
                score = np.concatenate(parts).mean()
            best = max(best, (score, -(depth or 99), smallest, sd), key=lambda found: found[:3])
    _, depth, smallest, sd = best
    fitted = make(max_depth=None if depth == -99 else -depth, min_samples_leaf=smallest, random_state=seed).fit(x, y)
    return gaussian(fitted.predict(new), sd, seen) if numbers else categorical(smoothed(fitted, new, classes), seen)


def smoothed(fitted, x, classes):
    """Probabilities of a leaf that counts one row more, in equal parts of every class."""
    rows = fitted.tree_.n_node_samples[fitted.apply(x)][:, None]
    return (rows * fitted.predict_proba(x) + 1 / classes) / (rows + 1)


def forest(x, y, new, seen, numbers, seed):
    if numbers:
        fitted = RandomForestRegressor(oob_score=True, random_state=seed).fit(x, y)
        return gaussian(fitted.predict(new), math.sqrt(np.mean((fitted.oob_prediction_ - y) ** 2)), seen)
    fitted = RandomForestClassifier(random_state=seed).fit(x, y)
    count = len(fitted.estimators_)
    return categorical((count * fitted.predict_proba(new) + 1 / len(fitted.classes_)) / (count + 1), seen)


def svc(x, y, new, seen, numbers, seed, kernel="linear"):
    fitted = make_pipeline(StandardScaler(), SVC(kernel=kernel, probability=True, random_state=seed)).fit(x, y)
    return categorical(fitted.predict_proba(new).clip(1e-12), seen)


def ours(x, y, new, seen, numbers, seed, name, steps, **config):
    torch.manual_seed(seed)
    if not numbers:
        config |= {"classes": int(y.max()) + 1}
        if name != "support_vector_machine":
            config["task"] = "classification"
    pair = zoo.create(name, features=x.shape[1], **config)
    data, test = Batch.of(x=x, y=y.astype(float)), Batch.of(x=new, y=seen.astype(float))
    inference.fit(pair, data, steps=steps, lr=0.04, batch_size=len(x), average=0.2, seed=seed, progress=False)
    posterior = inference.draw(pair, data, DRAWS, seed=seed)
    log = inference.log_likelihood(pair, posterior, test)[0].logsumexp(0).double().numpy() - math.log(DRAWS)
    drawn = inference.predict(pair, posterior, test.but(y=None), seed=seed)["y"][0].double().numpy()
    if numbers:
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        return {"log": log, "error": drawn.mean(0) - seen, "inside": (low <= seen) & (seen <= high)}
    votes = np.stack([(drawn == k).mean(0) for k in range(config["classes"])], 1)
    return {"log": log, "error": votes.argmax(1) != seen}


def bart(x, y, new, seen, numbers, seed):
    import pymc as pm
    import pymc_bart

    with pm.Model():
        data = pm.Data("x", x)
        mean = pymc_bart.BART("f", data, y, m=50)
        noise = pm.HalfNormal("noise", y.std())
        pm.Normal("y", mean, noise, observed=y, shape=mean.shape)
        posterior = pm.sample(500, tune=500, chains=2, cores=1, random_seed=seed, progressbar=False)
        pm.set_data({"x": new})
        found = pm.sample_posterior_predictive(posterior, var_names=["f"], random_seed=seed, progressbar=False)
    f = found.posterior_predictive["f"].to_numpy().reshape(-1, len(new))
    sd = posterior.posterior["noise"].to_numpy().reshape(-1, 1)
    drawn = np.random.default_rng(seed).normal(f, sd)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    log = np.logaddexp.reduce(norm.logpdf(seen, f, sd)) - math.log(len(f))
    return {"log": log, "error": drawn.mean(0) - seen, "inside": (low <= seen) & (seen <= high)}


METHODS = {
    "tree": tree,
    "decision_tree": lambda *a, steps: ours(*a, name="decision_tree", steps=steps),
    "forest": forest,
    "random_forest": lambda *a, steps: ours(*a, name="random_forest", steps=steps),
    "bart": bart,
    "svc": svc,
    "svm": lambda *a, steps: ours(*a, name="support_vector_machine", steps=steps, guide="multivariate"),
    "svc_rbf": lambda *a: svc(*a, kernel="rbf"),
    "svm_rbf": lambda *a, steps: ours(*a, name="support_vector_machine", steps=steps, kernel="rbf", guide="lowrank"),
}


def serves(method, name):
    """Whether a method takes a table: machines take classes, and BART, here, numbers."""
    if method.startswith("sv"):
        return name in CLASSES
    if method == "bart":
        return name in NUMBERS and importlib.util.find_spec("pymc_bart") is not None
    return name != "iris"


def piece(name, method, fold, count, steps):
    """Sums over the rows of one fold."""
    x, y = load(name)
    train, test = folds(name, x, y, count)[fold]
    given = (x[train], y[train], x[test], y[test], name in NUMBERS, fold)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = METHODS[method](*given, steps=steps) if steps else METHODS[method](*given)
    kept = {"rows": len(test), "squares": float((found["error"] ** 2).sum()), "log": found["log"].tolist()}
    if "inside" in found:
        kept["inside"] = int(found["inside"].sum())
    return {**kept, "seconds": time.perf_counter() - began}


def score(runs):
    """Over all rows: error (root mean square, or share of wrong classes), log score and its error, coverage."""
    rows = sum(run["rows"] for run in runs)
    log = np.concatenate([run["log"] for run in runs])
    squares = sum(run["squares"] for run in runs) / rows
    inside = sum(run["inside"] for run in runs) / rows if "inside" in runs[0] else None
    return {
        "rows": rows, "error": squares, "log": log.mean(), "log_error": log.std(ddof=1) / math.sqrt(rows),
        "inside": inside, "seconds": np.mean([run["seconds"] for run in runs]),
    }  # fmt: skip


def summary(done, count):
    """The result as a Markdown table."""
    lines = [
        "| table | method | RMSE, or wrong | log score | 90 % intervals cover | seconds a fit |",
        f"|{' --- |' * 6}",
    ]
    for name in TABLES:
        for method in METHODS:
            runs = [run for key, run in done.items() if key.startswith(f"{name} {method} ") and f"/{count} " in key]
            if not runs:
                continue
            found = score(runs)
            error = f"{math.sqrt(found['error']):.3f}" if name in NUMBERS else f"{found['error']:.1%}"
            covered = "" if found["inside"] is None else f"{found['inside']:.1%}"
            log = f"{found['log']:.3f} ± {1.96 * found['log_error']:.3f}"
            part = "" if len(runs) == count else f" ({len(runs)} of {count} folds)"
            lines.append(f"| {name} | {method}{part} | {error} | {log} | {covered} | {found['seconds']:.0f} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="two folds of iris and diabetes, 60 steps")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--only", help="names of tables, with commas")
    parser.add_argument("--methods", help="names of methods, with commas")
    parser.add_argument("--out", type=Path, default=Path("regression.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    wanted = options.only.split(",") if options.only else ["diabetes", "iris"] if options.quick else TABLES
    methods = options.methods.split(",") if options.methods else list(METHODS)
    for given, known in ((wanted, TABLES), (methods, METHODS)):
        for name in given:
            if name not in known:
                parser.error(f"no '{name}'; there are: {', '.join(known)}")
    count = 2 if options.quick else options.folds
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in wanted:
        for method in methods:
            if not serves(method, name):
                continue
            steps = 60 if options.quick and method in STEPS else STEPS.get(method)
            for fold in range(count):
                key = f"{name} {method} {fold}/{count} steps={steps}"
                if key in done:
                    continue
                done[key] = piece(name, method, fold, count, steps)
                fresh = options.out.with_suffix(".part")
                fresh.write_text(json.dumps(done, indent=1))
                fresh.replace(options.out)
            runs = [done[f"{name} {method} {fold}/{count} steps={steps}"] for fold in range(count)]
            print(name, method, {what: v and round(float(v), 3) for what, v in score(runs).items()}, flush=True)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(f"\n{count}-fold cross-validation; log score ± 95 % interval over rows; 1 thread; {versions}\n")
    print(summary(done, count))
    return done


if __name__ == "__main__":
    main()
