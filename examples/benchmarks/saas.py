"""A fully Bayesian Gaussian process under the SAAS prior: how long until 256 draws can be used?

    python examples/benchmarks/saas.py [--quick] [--out FILE.json] [--only PROGRAM,PROGRAM] [--methods METHOD,METHOD]
        [--seeds S] [--first S] [--limit SECONDS] [--check] [--write]

20 inputs of which 6 matter, 50 and 100 rows (`pyro_programs/subspaces.py`; in NumPyro `numpyro_twins/subspaces.py`).
Bayesian optimisation fits this model anew after each evaluation, and predicts with 256 draws or fewer. Score: CPU
seconds, warm-up included, until the draws so far, of which 256 are then taken evenly, have an R-hat of at most 1.01
for all 24 latents (ArviZ: rank-normalised, split, the larger of bulk and tail); recording and compiling are told
apart. Each runs as its users run it:

    ours      `inference.sample(zoo.program(model), x, y)`: 500 draws of as many chains as it takes by itself, 16 of a
              density of this size. R-hat is looked at every 10 draws, and the time to pass is that of warm-up and of
              so many draws.
    ours_64   the same with chains=64, what smaller densities get.
    pyro      one chain of NUTS as in BoTorch before 2026: a full mass matrix, trees of at most 6 levels, 512
              transitions of warm-up, then 256 draws, and 64 more at a time until they pass.
    numpyro   the same kernel, four vectorised chains in one compiled function; every 64 draws of each are looked at.

All on one core, in turn; results are kept in run/, and what is there is not run again. --limit stops peers after so
many CPU seconds of sampling; --check compares the densities and stops; --write puts the table into README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import programs
import pyro
import sampling
import torch
from pyro.infer import MCMC, NUTS
from pyro_programs import EXAMPLES as THIRTY
from pyro_programs.subspaces import EXAMPLES
from sampling import installed, scalars, versions

import inference
import zoo

METHODS = ("ours", "ours_64", "pyro", "numpyro")
LATENTS = ("outputscale", "mean", "noise", "kernel_tausq", "_kernel_inv_length_sq")
WARMUP, BLOCK, DEPTH, MOST = 512, 64, 6, 8192
PASSED = 1.01


def seen_so_far(draws, count):
    """R-hat of the first draws of each chain, (chain, draw, ...) by site; of one chain, that of its two halves."""
    values = {site: np.asarray(draws[site], dtype=float)[:, :count] for site in LATENTS}
    if len(values["mean"]) == 1:
        values = {site: value[0].reshape(2, count // 2, *value.shape[2:]) for site, value in values.items()}
    return sampling.worst_rhat(scalars(values))


def ours(name, seed, quick, limit, chains=None):
    model, arguments = EXAMPLES[name].program()
    count, chains = (20, 16) if quick else (500, chains)
    began = time.process_time()
    found = inference.sample(
        zoo.program(model), *arguments, draws=count, chains=chains, max_warmup=200 if quick else 2000, seed=seed,
        compile="inductor", progress=False,
    )  # fmt: skip
    warmup, drawing = found.cpu["warmup"], found.cpu["draws"]
    compiling = time.process_time() - began - warmup - drawing
    draws = {site: value.numpy() for site, value in found.draws.items()}
    told = {"warmup": found.warmup, "chains": found.chains, "plain_draws": count, "plain_cpu": warmup + drawing}
    told |= {"plain_rhat": seen_so_far(draws, count), "compile": compiling, "warmup_cpu": warmup}
    told |= {"divergences": int(found.stats["diverging"].sum()), "steps": float(found.stats["n_steps"].double().mean())}
    for n in range(10, count + 1, 10):
        if seen_so_far(draws, n) <= PASSED:
            told |= {"draws": n, "cpu": warmup + drawing * n / count}
            break
    return told, draws


def pyros(name, seed, quick, limit):
    model, arguments = EXAMPLES[name].program()
    warmup, plain = (10, 20) if quick else (WARMUP, 256)
    kept, told = [], {"warmup": warmup, "chains": 1, "plain_draws": plain, "compile": 0.0}
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    began = time.process_time()

    def look(kernel, parameters, stage, i):
        spent = time.process_time() - began
        if stage.lower().startswith("sample"):
            kept.append({site: value.detach().numpy().copy() for site, value in kernel_values(kernel, parameters)})
            if len(kept) < plain or (len(kept) % BLOCK and len(kept) > plain):
                return
            rhat = seen_so_far(stacked(kept), len(kept))
            if len(kept) == plain:
                told.update(plain_cpu=spent, plain_rhat=rhat)
            if rhat <= PASSED:
                told.update(draws=len(kept), cpu=spent)
            if rhat <= PASSED or quick or len(kept) >= MOST:
                raise Done
        elif i + 1 == warmup:
            told["warmup_cpu"] = spent
        if limit and spent > limit:
            told["over"] = spent
            raise Done

    kernel = NUTS(model, full_mass=True, max_tree_depth=DEPTH)
    chain = MCMC(kernel, num_samples=MOST, warmup_steps=warmup, disable_progbar=True, hook_fn=look)
    try:
        chain.run(*arguments)
    except Done:
        told["divergences"] = len(kernel.diagnostics()["divergences"])
    return told, stacked(kept)


class Done(Exception):
    """Enough draws."""


def kernel_values(kernel, parameters):
    """Latents at free ones."""
    return {site: kernel.transforms[site].inv(value) for site, value in parameters.items() if site in LATENTS}.items()


def stacked(kept):
    return {site: np.stack([one[site] for one in kept])[None] for site in (kept[0] if kept else ())}


def numpyros(name, seed, quick, limit):
    import jax
    from numpyro import infer

    jax.config.update("jax_enable_x64", True)
    warmup, plain = (10, 20) if quick else (WARMUP, 256)
    data = EXAMPLES[name].data()
    kernel = infer.NUTS(EXAMPLES[name].twin, dense_mass=True, max_tree_depth=DEPTH)

    def chains():
        return infer.MCMC(
            kernel, num_warmup=warmup, num_samples=plain, num_chains=4, chain_method="vectorized", progress_bar=False
        )

    def first(key):
        run = chains()
        run.run(key, *data, extra_fields=("diverging", "num_steps"))
        return run.get_samples(group_by_chain=True), run.get_extra_fields(), run.last_state

    def further(state):
        run = chains()
        run.post_warmup_state = state
        run.run(state.rng_key, *data, extra_fields=("diverging", "num_steps"))
        return run.get_samples(group_by_chain=True), run.get_extra_fields(), run.last_state

    began = time.process_time()
    key = jax.random.key(seed)
    begin = jax.jit(first).lower(key).compile()
    compiled = time.process_time() - began
    began = time.process_time()
    found, extra, state = jax.block_until_ready(begin(key))
    spent = time.process_time() - began
    draws = jax.device_get({site: found[site] for site in LATENTS})
    told = {"warmup": warmup, "chains": 4, "plain_draws": plain, "plain_cpu": spent, "compile": compiled}
    told |= {"divergences": int(extra["diverging"].sum()), "steps": float(extra["num_steps"].mean())}
    told["plain_rhat"] = seen_so_far(draws, plain)
    each = spent * plain / (warmup + plain)  # of this block, as if a transition were like another
    going = None
    while not quick:
        have = len(draws["mean"][0])
        for n in range(have - plain + BLOCK, have + 1, BLOCK):
            if seen_so_far(draws, n) <= PASSED:
                return told | {"draws": n, "cpu": spent - each * (have - n) / plain}, draws
        if have >= MOST or (limit and spent > limit):
            return told | {"over": spent}, draws
        if going is None:
            began = time.process_time()
            going = jax.jit(further).lower(state).compile()
            told["compile_again"] = time.process_time() - began
        began = time.process_time()
        found, extra, state = jax.block_until_ready(going(state))
        each = time.process_time() - began
        spent += each
        more = jax.device_get({site: found[site] for site in LATENTS})
        draws = {site: np.concatenate([draws[site], more[site]], 1) for site in LATENTS}
        told["divergences"] += int(extra["diverging"].sum())
    return told, draws


RUNS = {"ours": ours, "ours_64": partial(ours, chains=64), "pyro": pyros, "numpyro": numpyros}


def outcome(name, method, seed, quick=False, limit=None):
    """How long one run took until it passed, and by itself; means of logarithms and their errors; or why it failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            told, draws = RUNS[method](name, seed, quick, limit)
        except Exception as error:  # a peer's failure is a result too
            return {"failed": f"{type(error).__name__}: {error}"[:200]}
        values = {site: np.asarray(draws[site], dtype=float) for site in LATENTS if site in draws}
        logs = scalars({site: v if site == "mean" else np.log(v) for site, v in values.items()})
        if logs and len(logs["mean[1]"][0]) >= 4:
            told |= {"ess": sampling.worst_ess(logs), "summary": sampling.summary(logs)}
    return told


# ---------------------------------------------------------------- running and telling


def main(arguments=None):
    """Run what is missing in turn and print the table; returns the results by program, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they run; numbers mean nothing")
    parser.add_argument("--out", type=Path, help="where results are kept (run/saas.json)")
    parser.add_argument("--only", default=",".join(EXAMPLES), help=f"of: {', '.join(EXAMPLES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=int, help="CPU seconds after which a peer is not continued")
    parser.add_argument("--check", action="store_true", help="compare the densities of programs and twins, and stop")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    names, methods = options.only.split(","), options.methods.split(",")
    for unknown in {*names, *methods} - {*EXAMPLES, *METHODS}:
        parser.error(f"no program or method {unknown!r}")
    if options.check:
        THIRTY.update(EXAMPLES)
        return programs.check(names)
    if hasattr(os, "sched_setaffinity") and not options.quick and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    path = options.out or Path("run") / ("saas_quick.json" if options.quick else "saas.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        for seed in range(options.first, options.first + options.seeds):
            for method in methods:
                key = f"{name}/{method}/{seed}"
                if key in results:
                    continue
                if not installed(method):
                    print(f"{method} is not installed: left out")
                    continue
                results[key] = outcome(name, method, seed, options.quick, options.limit)
                print(key, {k: v for k, v in results[key].items() if k != "summary"}, flush=True)
                path.write_text(json.dumps(results))
    print(table(results))
    if options.write:
        sampling.write(table(results), "saas")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    return results


def of(results, name, method):
    """Runs of a program by a method that came to an end."""
    found = [r for key, r in results.items() if key.startswith(f"{name}/{method}/")]
    return [r for r in found if "failed" not in r]


def table(results):
    """One line a program and method; ratios of medians are of our quicker way: without compiling, and with it."""
    heads = ("program", "method", "chains", "warm-up", "draws a chain until R-hat ≤ 1.01", "CPU s until then")
    heads += (
        "ours / it",
        "compiling, s",
        "ours / it, with it",
        "plain run: draws, CPU s, R-hat",
        "divergent",
        "furthest",
    )
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in EXAMPLES:
        ways = [found for way in METHODS[:2] if (found := of(results, name, way)) and all("cpu" in r for r in found)]
        mine = min(ways, key=lambda found: statistics.median(r["cpu"] for r in found), default=[])
        for method in METHODS:
            runs = of(results, name, method)
            for key, failed in results.items():
                if key.startswith(f"{name}/{method}/") and "failed" in failed:
                    lines.append(f"| `{name}` | `{method}` | failed: {failed['failed']} |" + " |" * (len(heads) - 3))
            if runs:
                lines.append(f"| `{name}` | `{method}` | {' | '.join(_cells(runs, mine, method in METHODS[:2]))} |")
    return "\n".join(lines)


def _cells(runs, mine, own):
    passed = [r for r in runs if "cpu" in r]
    spent = [r.get("cpu", r.get("over", math.nan)) for r in runs]  # not less than that
    least = "" if len(passed) == len(runs) else "over "
    with_it = [s + r["compile"] for s, r in zip(spent, runs, strict=True)]
    one = statistics.median(r["cpu"] for r in mine) if mine else math.nan
    whole = statistics.median(r["cpu"] + r["compile"] for r in mine) if math.isfinite(one) else math.nan
    ratio = ["", ""] if own else [f"{one / statistics.median(spent):.3f}", f"{whole / statistics.median(with_it):.3f}"]
    plain = [r for r in runs if "plain_cpu" in r]
    cells = [str(runs[0]["chains"]), sampling.spread([r["warmup"] for r in runs])]
    cells += [sampling.spread([r["draws"] for r in passed]) if passed else "not reached"]
    cells += [least + sampling.spread(spent, 1), ratio[0], sampling.spread([r["compile"] for r in runs], 1), ratio[1]]
    cells += [
        f"{plain[0]['plain_draws']}, {sampling.spread([r['plain_cpu'] for r in plain], 1)}, "
        f"{sampling.spread([r['plain_rhat'] for r in plain], 3)}" if plain else ""
    ]  # fmt: skip
    cells += [str(sum(r.get("divergences", 0) for r in runs)), "" if own else _furthest(mine, runs)]
    return cells


def _furthest(mine, runs):
    """How many combined Monte Carlo errors the furthest mean (of logarithms) lies from ours."""
    pairs = [(a, b) for a, b in zip(mine, runs, strict=False) if "summary" in a and "summary" in b]
    return f"{max(programs.away(a, b) for a, b in pairs):.1f}" if pairs else ""


if __name__ == "__main__":
    main()
