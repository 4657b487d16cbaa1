"""Any Pyro program, untouched: how fast do its chains tell what they know? Beside Pyro's own NUTS and NumPyro's.

    python examples/benchmarks/programs.py [--quick] [--out FILE.json] [--only PROGRAM,PROGRAM]
        [--methods METHOD,METHOD] [--seeds S] [--first S] [--limit SECONDS] [--check] [--write]

Thirty programs of Pyro's examples and tutorials (`pyro_programs/`), the same in NumPyro (`numpyro_twins/`). Score: the
smallest bulk effective sample size of any number of the latents, by ArviZ, for each second of CPU time, warm-up
included; what compiles or records is left out and told apart. A run counts where R-hat is below 1.01 and every mean
lies within 4 combined Monte Carlo errors of Pyro's.

`ours` is `inference.sample(zoo.program(model), ...)` as it comes, 64 chains of 500 draws, compiled by Inductor
(`ours_graph`: recorded only). Pyro runs one chain of NUTS, 300 draws after 300 of warm-up; NumPyro four vectorised
chains of 1,000 after 1,000, in double precision, what can be summed out by hand summed out. All on one core, program by
program and seed by seed in turn; results are kept in run/ and what is there is not run again. With --limit each run
has a process of its own, which is stopped, and reported so, after so much CPU time (compiling included). --check only
compares the densities of programs and twins; --write puts the table into README.md.
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
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pyro
import sampling
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value
from pyro_programs import EXAMPLES
from sampling import Run, installed, scalars, spread, versions

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential

METHODS = ("ours", "ours_graph", "pyro", "numpyro")
QUICK = ("eight_schools_reparam", "item_response", "gaussian_mixture")  # unless --only says otherwise


def seen(name):
    """A program, its arguments, and what it holds."""
    model, arguments = EXAMPLES[name].program()
    return model, arguments, outline(zoo.program(model, start=EXAMPLES[name].start), arguments, {})


def named(name, draws):
    """Numbers of what is told of a program, each (chain, draw); those that never change are left out."""
    example = EXAMPLES[name]
    kept = example.told or [latent.name for latent in seen(name)[2].latents]
    values = {site: np.asarray(draws[site], dtype=float) for site in kept}
    values |= {site: np.log(values[site]) for site in example.heavy}
    return {number: value for number, value in scalars(values).items() if np.ptp(value) > 0}


@dataclass
class Methods:
    """One run of each kind; `told` has what else there is to say of the last."""

    quick: bool = False
    kept: dict = field(default_factory=dict)
    told: dict = field(default_factory=dict)

    def ours(self, name, seed, mode="inductor"):
        model, arguments = EXAMPLES[name].program()
        began = time.process_time()
        found = inference.sample(
            zoo.program(model, start=EXAMPLES[name].start), *arguments, draws=100 if self.quick else 500, seed=seed,
            compile=mode, progress=False,
        )  # fmt: skip
        cpu = found.cpu["warmup"] + found.cpu["draws"]
        compiling = time.process_time() - began - cpu
        self.told = {"warmup": found.warmup, "steps": float(found.stats["n_steps"].double().mean())}
        self.told |= {"notes": list(found.notes), "compiled": found.compile, "operations": operations(name)}
        draws = named(name, {site: value.numpy() for site, value in found.draws.items()})
        return Run(draws, cpu, compiling, int(found.stats["diverging"].sum()), found.seconds["compile"])

    def ours_graph(self, name, seed):
        return self.ours(name, seed, "graph")

    def pyro(self, name, seed):
        model, arguments, held = seen(name)
        count = 50 if self.quick else 300
        values = {site: torch.as_tensor(value) for site, value in EXAMPLES[name].start.items()}
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        began = time.process_time()
        kernel = NUTS(model, max_plate_nesting=held.depth, **_start(values))
        chain = MCMC(kernel, num_samples=count, warmup_steps=count, disable_progbar=True)
        chain.run(*arguments)
        cpu = time.process_time() - began
        draws = {site: value.numpy() for site, value in chain.get_samples(group_by_chain=True).items()}
        told = set(EXAMPLES[name].told) - draws.keys()
        if told:
            flat = {site: torch.as_tensor(value[0]) for site, value in draws.items()}
            made = pyro.infer.Predictive(model, flat, return_sites=sorted(told))(*arguments)
            draws |= {site: value.numpy().reshape(1, count, -1) for site, value in made.items()}
        return Run(named(name, draws), cpu, 0.0, len(chain.diagnostics()["divergences"]["chain 0"]))

    def numpyro(self, name, seed):
        began = time.process_time()
        if name not in self.kept:
            data, count = EXAMPLES[name].data(), 100 if self.quick else 1000
            self.kept[name] = sampling.numpyro_chains(EXAMPLES[name].twin, data, count, 4)
        compiled = time.process_time()
        draws, diverging = self.kept[name](seed)
        done = time.process_time()
        return Run(named(name, draws), done - compiled, compiled - began, int(diverging.sum()))


def _start(values):
    return {"init_strategy": init_to_value(values=values)} if values else {}


def outcome(running, name, method, seed):
    """What one run gives: scores, and how it came about; or why it failed."""
    running.told = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sampling.outcome(running, name, method, seed) | running.told


def operations(name):
    """How many operations of tensors one point's density and gradient are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        potential = ProgramPotential(seen(name)[2], required=True)
    return len(potential._maps["density"].graph.graph.nodes)


def twin_error(name):
    """The largest difference, over 5 points, of what a program and its twin say of the density relative to the first.

    A site that Pyro observes in part has stand-ins there which the twin does not have: those are not compared.
    """
    import jax
    from numpyro.handlers import seed, substitute, trace
    from numpyro.infer import init_to_uniform
    from numpyro.infer.util import log_density

    jax.config.update("jax_enable_x64", True)
    example, (_, _, held) = EXAMPLES[name], seen(name)
    if any(latent.name.endswith("_unobserved") for latent in held.latents):
        return math.nan
    potential = ProgramPotential(held, required=True)
    points = 0.3 * torch.randn(5, held.size, generator=torch.Generator().manual_seed(2))
    values, jacobian = potential.constrain(points)
    ours = potential.log_density(points) - jacobian
    started = substitute(seed(example.twin, 0), substitute_fn=init_to_uniform())
    drawn = trace(started).get_trace(*example.data())
    theirs = []
    for i in range(len(points)):
        given = {}
        for site, node in drawn.items():
            if node["type"] == "sample" and not node["is_observed"]:
                parts = [values[f"{site}_{t}"] for t in range(node["value"].size)] if site not in values else None
                given[site] = (values[site] if parts is None else torch.stack(parts, -1))[i].numpy()
        theirs.append(float(log_density(example.twin, example.data(), {}, given)[0]))
    away = (ours - ours[0]) - (torch.tensor(theirs) - theirs[0])
    return float(away.abs().max() / (1 + (ours - ours[0]).abs().max()))


# ---------------------------------------------------------------- running and telling


def main(arguments=None):
    """Run what is missing in turn and print the table; returns the results by program, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they run; numbers mean nothing")
    parser.add_argument("--out", type=Path, help="where results are kept (run/programs.json)")
    parser.add_argument("--only", help=f"of: {', '.join(EXAMPLES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=int, help="CPU seconds of one run, compiling included")
    parser.add_argument("--check", action="store_true", help="compare the densities of programs and twins, and stop")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    names = options.only.split(",") if options.only else list(QUICK if options.quick else EXAMPLES)
    methods = options.methods.split(",")
    for unknown in {*names, *methods} - {*EXAMPLES, *METHODS}:
        parser.error(f"no program or method {unknown!r}")
    for method in methods:
        if not installed(method):
            print(f"{method} is not installed: left out")
    if options.check:
        return check(names)
    if hasattr(os, "sched_setaffinity") and not options.quick:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    path = options.out or Path("run") / ("programs_quick.json" if options.quick else "programs.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    running = Methods(options.quick)
    for name in names:
        for seed in range(options.first, options.first + options.seeds):
            for method in filter(installed, methods):
                key = f"{name}/{method}/{seed}"
                if key in results:
                    continue
                one = (
                    sampling.limited(key, options, __file__) if options.limit else outcome(running, name, method, seed)
                )
                results[key] = one
                print(key, {k: v for k, v in one.items() if k not in ("summary", "notes")}, flush=True)
                path.write_text(json.dumps(results))
    print(table(results, names, methods))
    print()
    print(verdict(results, names))
    if options.write:
        done = [name for name in EXAMPLES if any(key.startswith(f"{name}/") for key in results)]
        sampling.write(f"{table(results, done, METHODS)}\n\n{verdict(results, done)}", "programs")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    return results


def check(names):
    """Differences of densities, by program."""
    found = {}
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = twin_error(name)
        print(f"{name}: {found[name]:.1e}", flush=True)
    return found


def runs(results, name, method):
    """Those of a program by a method, which came to an end."""
    found = [r for key, r in results.items() if key.startswith(f"{name}/{method}/")]
    return [r for r in found if "rate" in r]


def away(one, other):
    """How many combined Monte Carlo errors the furthest mean lies from that of another run."""
    return max(
        abs(mean - other["summary"][number][0]) / math.hypot(error, other["summary"][number][2])
        for number, (mean, _, error) in one["summary"].items()
        if number in other["summary"]
    )


def furthest(results, name, method, reference):
    """The same over the runs of two methods, seed by seed; None where one is missing."""
    found = [away(a, b) for a, b in zip(runs(results, name, method), runs(results, name, reference), strict=False)]
    return max(found) if found else None


def middle(results, name, method):
    """The median score, or None."""
    found = [r["rate"] for r in runs(results, name, method)]
    return statistics.median(found) if found else None


def best(results, name):
    """Our better way: compiled where that was run."""
    return next((way for way in ("ours", "ours_graph") if runs(results, name, way)), "ours")


def table(results, names, methods):
    """One line a program: scores by method, how ours came about, and how far the means lie from the others'."""
    heads = [f"`{method}`" for method in methods]
    heads += ["operations", "warm-up", "CPU s", "largest R-hat", "divergent", "from Pyro's", "from NumPyro's"]
    lines = [f"| program | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for name in names:
        cells = []
        for method in methods:
            whole = runs(results, name, method)
            failed = [r["failed"] for k, r in results.items() if k.startswith(f"{name}/{method}/") and "failed" in r]
            cells.append(spread([r["rate"] for r in whole], 1) if whole else (failed or ["not run"])[0])
        way = best(results, name)
        ours = runs(results, name, way)
        cells.append(str(ours[0]["operations"]) if ours else "")
        cells += [spread([r[key] for r in ours], digits) if ours else "" for key, digits in (("warmup", 0), ("cpu", 1))]
        cells += [f"{max(r['rhat'] for r in ours):.3f}", str(sum(r["divergences"] for r in ours))] if ours else ["", ""]
        far = [furthest(results, name, way, reference) for reference in ("pyro", "numpyro")]
        cells += ["" if value is None else f"{value:.1f}" for value in far]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(results, names):
    """What the table comes to."""
    lines = []
    for reference in ("pyro", "numpyro"):
        pairs = [(middle(results, name, best(results, name)), middle(results, name, reference)) for name in names]
        ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
        if ratios:
            lines.append(
                f"Ours over {reference}: median {statistics.median(ratios):.1f} (least {min(ratios):.2f}, most "
                f"{max(ratios):.0f}) of {len(ratios)} programs, ahead on {sum(r > 1 for r in ratios)}."
            )
    far = [furthest(results, name, best(results, name), "pyro") for name in names]
    known = [value for value in far if value is not None]
    lines.append(f"Means within 4 combined errors of Pyro's: {sum(v < 4 for v in known)} of {len(known)}.")
    mixed = [max(r["rhat"] for r in found) for name in names if (found := runs(results, name, best(results, name)))]
    lines.append(f"R-hat below 1.01: {sum(v < 1.01 for v in mixed)} of {len(mixed)}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
