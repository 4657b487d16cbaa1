"""From a cold process to a posterior that can be believed: CPU seconds of `inference.infer`, nutpie and NumPyro.

    python examples/benchmarks/cold.py [--out FILE.json] [--only NAME,NAME] [--methods METHOD,METHOD] [--seed S]
                                       [--write]

Ten programs of `pyro_programs/` of unlike kinds, four of them hierarchical (baseball, eight schools, radon, the exam),
with their twins in NumPyro and PyMC. Each run is a process of its own with empty compilers' caches; what counts is its
CPU time from start to end, imports, building, compiling and whatever processes it starts included, on one thread.

`ours` is `inference.infer(zoo.program(model), ...)` as it comes, in double precision; it counts where it says "trust
it". nutpie (PyMC, its own compiler) and NumPyro (vectorised, double precision) run four chains of 500 draws; where
R-hat is then not below 1.01 for every number, or bulk or tail effective sample size not 400, 1,000 and 2,000 are tried,
and the first that reaches it counts alone. Where both have the site, the last column is the distance of our means from
NumPyro's, at the most, in posterior deviations. Results are kept, and what is there is not run again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
NAMES = (
    "ruggedness", "logistic_regression", "robust_regression", "negative_binomial", "gaussian_mixture", "gp_regression",
    "baseball", "eight_schools_reparam", "radon", "item_response",
)  # fmt: skip
METHODS = ("ours", "nutpie", "numpyro")
DRAWS = (500, 1000, 2000)
RHAT, EFFECTIVE = 1.01, 400


# ---------------------------------------------------------------- in the child: nothing but what the method needs


def ours(name, home, data, seed, draws):
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    module = importlib.import_module(f"pyro_programs.{home}")

    import inference
    import zoo

    example = module.EXAMPLES[name]
    model, arguments = example.program()
    found = inference.infer(zoo.program(model, start=example.start), *arguments, seed=seed, progress=False)
    told = {"line": str(found), "trusted": found.trusted, "road": found.road}
    return {site: value.numpy() for site, value in found.draws.items()}, told


def numpyro(name, home, data, seed, draws):
    import jax
    from numpyro import infer

    jax.config.update("jax_enable_x64", True)
    twin = getattr(importlib.import_module(f"numpyro_twins.{home}"), name)
    run = infer.MCMC(
        infer.NUTS(twin), num_warmup=500, num_samples=draws, num_chains=4, chain_method="vectorized",
        progress_bar=False,
    )  # fmt: skip
    run.run(jax.random.key(seed), *data)
    return jax.device_get(run.get_samples(group_by_chain=True)), {}


def nutpie(name, home, data, seed, draws):
    import nutpie as sampler
    import pymc
    import pymc_twins

    with pymc.Model() as model:
        getattr(pymc_twins, name)(*data)
    compiled = sampler.compile_pymc_model(model)
    found = sampler.sample(compiled, chains=4, cores=1, draws=draws, seed=seed, progress_bar=False)
    free = {variable.name for variable in model.free_RVs}
    return {str(site): found.posterior[site].values for site in found.posterior.data_vars if site in free}, {}


def child(folder):
    """One run, of what `asked.pickle` says; leaves `draws.pickle`."""
    asked = pickle.loads((folder / "asked.pickle").read_bytes())  # noqa: S301 - of our own parent
    method = {"ours": ours, "numpyro": numpyro, "nutpie": nutpie}[asked.pop("method")]
    (folder / "draws.pickle").write_bytes(pickle.dumps(method(**asked)))


# ---------------------------------------------------------------- in the parent


def measured(asked):
    """CPU seconds of a fresh process, its draws (chain, draw, ...) by site, and what it told."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "asked.pickle").write_bytes(pickle.dumps(asked))
        caches = {
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch", "NUMBA_CACHE_DIR": f"{folder}/numba",
            "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor", "OMP_NUM_THREADS": "1",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        }  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-W", "ignore", __file__, "--child", folder]
        process = subprocess.Popen(command, env=kept | caches, stderr=subprocess.PIPE, text=True)
        with process.stderr as told:
            error = told.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(error.strip().splitlines()[-1] if error.strip() else f"status {process.returncode}")
        draws, told = pickle.loads((Path(folder) / "draws.pickle").read_bytes())  # noqa: S301 - of our own child
    return used.ru_utime + used.ru_stime, draws, told


def quality(draws):
    """The largest R-hat and the least effective sample size of any number."""
    import numpy as np
    from arviz_stats import base

    flat = np.concatenate([np.asarray(v, float).reshape(*v.shape[:2], -1) for v in draws.values()], -1)
    flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]
    stats, axes = base.array_stats, {"chain_axis": 0, "draw_axis": 1}
    sizes = stats.ess(flat, method="bulk", **axes), stats.ess(flat, method="tail", prob=(0.05, 0.95), **axes)
    return float(np.nanmax(stats.rhat(flat, **axes))), float(min(np.nanmin(size) for size in sizes))


def outcome(name, home, data, method, seed):
    """One line of results."""
    asked = {"name": name, "home": home, "data": data, "method": method, "seed": seed}
    if method == "ours":
        cpu, draws, told = measured(asked | {"draws": None})
        result = {"cpu": cpu, "reached": told["trusted"], **told}
    else:
        for count in DRAWS:
            cpu, draws, _ = measured(asked | {"draws": count})
            worst, least = quality(draws)
            result = {"cpu": cpu, "draws": count, "rhat": worst, "ess": least}
            result["reached"] = worst < RHAT and least >= EFFECTIVE
            if result["reached"]:
                break
    moments = {site: (v.mean((0, 1)).tolist(), v.std((0, 1)).tolist()) for site, v in draws.items()}
    return result | {"moments": moments}


def apart(one, other):
    """The largest distance of two means, in deviations, over sites of one name and size; None where there are none."""
    import numpy as np

    found = [
        float(np.max(np.abs(np.ravel(mean) - np.ravel(other[site][0])) / np.ravel(other[site][1])))
        for site, (mean, _) in one.items()
        if site in other and np.size(mean) == np.size(other[site][0])
    ]
    return max(found, default=None)


def table(results):
    """Markdown: seconds by method, ratios, and how far our means lie from NumPyro's."""
    lines = [
        "| program | ours | nutpie | NumPyro | of nutpie's | of NumPyro's | road | means apart |",
        "|" + " --- |" * 8,
    ]
    ratios = {"nutpie": [], "numpyro": []}
    for name in NAMES:
        found = {method: results.get(f"{name}/{method}") for method in METHODS}
        if not found["ours"]:
            continue
        cells = []
        for method in METHODS:
            one = found[method]
            note = "" if not one or one.get("reached") else " (not believed)" if method == "ours" else " (not reached)"
            cells.append("not run" if not one else one["failed"] if "failed" in one else f"{one['cpu']:.1f}{note}")
        for method, kept in ratios.items():
            one, mine = found[method], found["ours"]
            if one and one.get("reached") and mine.get("reached"):
                kept.append(mine["cpu"] / one["cpu"])
                cells.append(f"{kept[-1]:.2f}")
            else:
                cells.append("")
        other = (found["numpyro"] or {}).get("moments")
        far = apart(found["ours"].get("moments", {}), other) if other else None
        cells += [found["ours"].get("road", ""), "" if far is None else f"{far:.2f}"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    for method, kept in ratios.items():
        if kept:
            lines += [
                "",
                f"Of {method}'s time: {statistics.median(kept):.2f} in the median, {max(kept):.2f} at the most.",
            ]
    return "\n".join(lines)


def main(arguments=None):
    """Run what is missing and print the table; returns the results by program and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("run/cold.json"), help="where results are kept")
    parser.add_argument("--only", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return child(options.child)
    names, methods = options.only.split(",") if options.only else list(NAMES), options.methods.split(",")
    for unknown in {*names, *methods} - {*NAMES, *METHODS}:
        parser.error(f"no program or method {unknown!r}")
    from pyro_programs import EXAMPLES

    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in names:
        example = EXAMPLES[name]
        home = example._function.__module__.rpartition(".")[2]
        for method in methods:
            key = f"{name}/{method}"
            if key in results:
                continue
            if method != "ours" and importlib.util.find_spec(method) is None:
                print(f"{method} is not installed: left out")
                continue
            try:
                results[key] = outcome(name, home, example.data(), method, options.seed)
            except RuntimeError as error:
                results[key] = {"failed": str(error)}
            print(key, {k: v for k, v in results[key].items() if k != "moments"}, flush=True)
            options.out.write_text(json.dumps(results))
    print(table(results))
    if options.write:
        import sampling

        sampling.write(table(results), "cold")
    return results


if __name__ == "__main__":
    main()
