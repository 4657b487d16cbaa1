"""CPU time of one step of SVI on any Pyro program: `inference.fit` beside Pyro's own SVI, on the same thirty programs.

    python examples/benchmarks/steps.py [--quick] [--out FILE.json] [--only PROGRAM,PROGRAM] [--methods METHOD,METHOD]
        [--limit SECONDS] [--write]

A step is all that a fit does for it: a draw of the guide, loss, gradients, Adam, and the book that the loop keeps. Pyro
takes it by `SVI.step` with its `AutoNormal`, `Adam` and `Trace_ELBO`, or `TraceEnum_ELBO` where discrete latents are
summed out; with validation, as it comes, and, told apart, without. Ours: `graph` and `inductor` are
`inference.fit(zoo.program(model, guide="normal"), ..., compile=…)`; `own_graph` and `own_inductor` take the very guide
that Pyro takes, `zoo.program(model, guide=AutoNormal)`.

The programs are those of `programs.py`, in double precision, on one core. Pyro's blocks of steps are run within the
fit, between ours, so that both meet the same machine; medians of five blocks. What comes before the first step is told
by itself: finding where to start, and in it recording and compiling. Results are kept in run/ and what is there is not
run again. With --limit each run has a process of its own, which is stopped after so much CPU time. --write puts the
table into README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import pyro
import sampling
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoNormal, init_to_feasible, init_to_value
from pyro.optim import Adam
from pyro_programs import EXAMPLES

import inference
import zoo
from inference.programs.outline import outline

METHODS = ("graph", "inductor", "own_graph", "own_inductor")
QUICK = ("eight_schools_reparam", "item_response", "gaussian_mixture")  # unless --only says otherwise
WARM = 20  # steps before the clock starts
BLOCK = 0.25  # CPU seconds of a block, about
SMALL = 0.5  # ms that a step by a graph takes at most where a program is called small: 1/10 is asked of Inductor there


def seen(name):
    """A program, its arguments, and what it holds."""
    model, arguments = EXAMPLES[name].program()
    return model, arguments, outline(zoo.program(model), arguments, {})


class Pyro:
    """Plain SVI of a program, as one writes it: `step()`."""

    def __init__(self, name: str) -> None:
        model, self.arguments, held = seen(name)
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        values = {site: torch.as_tensor(value) for site, value in EXAMPLES[name].start.items()}
        start = init_to_value(values=values) if values else init_to_feasible
        self.guide = AutoNormal(poutine.block(model, hide=[*held.enumerated]), init_loc_fn=start)
        loss = Trace_ELBO(max_plate_nesting=held.depth)
        if held.enumerated:
            model = config_enumerate(model, "parallel")
            loss = TraceEnum_ELBO(max_plate_nesting=held.depth, strict_enumeration_warning=False)
        self.svi = SVI(model, self.guide, Adam({"lr": 1e-3}), loss)

    def step(self) -> float:
        """One step."""
        return self.svi.step(*self.arguments)


def measured(name, method, rounds, block=BLOCK):
    """µs a step of ours and of Pyro's, by block, and what came before the first step."""
    own, mode = method.startswith("own_"), method.removeprefix("own_")
    plain, (model, arguments, _) = Pyro(name), seen(name)
    found = {"ours": [], "pyro": [], "pyro_unchecked": []}
    clock = {"began": time.process_time(), "wall": time.perf_counter()}

    def theirs(steps):
        began = time.process_time()
        for _ in range(steps):
            plain.step()
        return (time.process_time() - began) / steps

    def watch(step, loss, pair):
        now = time.process_time()
        if step == 0:
            clock.update(before=now - clock["began"], wall=time.perf_counter() - clock["wall"], mark=now)
            return False
        if step == WARM:
            clock["steps"] = max(2, min(1000, int(block * (WARM - 1) / (now - clock["mark"]))))
            clock["theirs"] = max(2, min(1000, int(block / theirs(3))))
        elif step < WARM or (step - WARM) % clock["steps"]:
            return False
        else:
            found["ours"].append(1e6 * (now - clock["mark"]) / clock["steps"])
            found["pyro"].append(1e6 * theirs(clock["theirs"]))
            with pyro.validation_enabled(False):
                found["pyro_unchecked"].append(1e6 * theirs(clock["theirs"]))
        clock["mark"] = time.process_time()
        return len(found["ours"]) == rounds

    program = zoo.program(model, guide=plain.guide if own else "normal", start=EXAMPLES[name].start)
    result = inference.fit(
        program, *arguments, steps=10**6, average=0, lr=1e-3, callbacks=[watch], compile=mode, progress=False
    )
    return found | {
        "before": clock["before"], "wall": clock["wall"], "recording": result.trace_seconds, "skipped": result.skipped,
    }  # fmt: skip


def outcome(name, method, quick):
    """What one run gives, or why it failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return measured(name, method, *((1, 0.01) if quick else (5,)))
        except Exception as error:  # a program that cannot be fitted so is a result too
            return {"failed": f"{type(error).__name__}: {error}"[:200]}


# ---------------------------------------------------------------- running and telling


def main(arguments=None):
    """Run what is missing in turn and print the table; returns the results by program, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they run; numbers mean nothing")
    parser.add_argument("--out", type=Path, help="where results are kept (run/steps.json)")
    parser.add_argument("--only", help=f"of: {', '.join(EXAMPLES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--limit", type=int, help="CPU seconds of one run, compiling included")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--seeds", type=int, default=1, help=argparse.SUPPRESS)  # what `sampling.limited` hands on
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    names = options.only.split(",") if options.only else list(QUICK if options.quick else EXAMPLES)
    methods = options.methods.split(",")
    for unknown in {*names, *methods} - {*EXAMPLES, *METHODS}:
        parser.error(f"no program or method {unknown!r}")
    path = options.out or Path("run") / ("steps_quick.json" if options.quick else "steps.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        for method in methods:
            key = f"{name}/{method}/0"
            if key in results:
                continue
            one = sampling.limited(key, options, __file__) if options.limit else outcome(name, method, options.quick)
            results[key] = one
            print(key, told(one), flush=True)
            path.write_text(json.dumps(results))
    print(f"{table(results, names)}\n\n{verdict(results, names)}")
    if options.write:
        done = [name for name in EXAMPLES if any(key.startswith(f"{name}/") for key in results)]
        sampling.write(f"{versions()}\n\n{table(results, done)}\n\n{verdict(results, done)}", "program-steps")
    print(versions())
    return results


def told(one):
    """A run in a line."""
    if "failed" in one:
        return one["failed"]
    return f"ours {statistics.median(one['ours']):,.0f} µs, of Pyro's {ratio(one):.3f}, before {one['before']:.1f} s"


def ratio(one, of="pyro"):
    """Our time in that of Pyro's, the median over blocks."""
    return statistics.median(a / b for a, b in zip(one["ours"], one[of], strict=True))


def table(results, names):
    """One line a program: Pyro's time, and ours as a share of it."""
    methods = [way for way in METHODS if any(f"{name}/{way}/0" in results for name in names)]
    heads = ["program", "Pyro, µs", "unchecked, µs", *(f"`{way}`" for way in methods), "graph, s", "Inductor, s"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in names:
        runs = {method: results.get(f"{name}/{method}/0", {"failed": "not run"}) for method in METHODS}
        whole = [one for one in runs.values() if "failed" not in one]
        cells = [
            f"{statistics.median(t for one in whole for t in one[of]):,.0f}" if whole else ""
            for of in ("pyro", "pyro_unchecked")
        ]
        cells += [one["failed"] if "failed" in one else f"{ratio(one):.3f}" for one in map(runs.get, methods)]
        for method in ("graph", "inductor"):
            one = runs[method]
            cells.append("" if "failed" in one else f"{one['wall']:.1f}, {one['recording']:.1f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(results, names):
    """What the table comes to, by method."""
    lines = []
    for method in METHODS:
        runs = {name: one for name in names if "ours" in (one := results.get(f"{name}/{method}/0", {}))}
        if not runs:
            continue
        shares, goal = [ratio(one) for one in runs.values()], 0.1 if "inductor" in method else 0.5
        unchecked = statistics.median(ratio(one, "pyro_unchecked") for one in runs.values())
        missed = [f"`{name}`" for name, one in runs.items() if ratio(one) > goal]
        lines.append(
            f"- `{method}`: median {statistics.median(shares):.3f} of Pyro's time (least {min(shares):.3f}, most "
            f"{max(shares):.3f}; {unchecked:.3f} of that without validation); at most {goal} in "
            f"{len(shares) - len(missed)} of {len(shares)}" + (f", not {', '.join(missed)}." if missed else ".")
        )
    return "\n".join(lines)


def versions():
    """Versions and threads."""
    found = {"torch": torch.__version__, "pyro": pyro.__version__, "Python": platform.python_version()}
    return ", ".join([*(f"{name} {version}" for name, version in found.items()), "1 thread"])


if __name__ == "__main__":
    main()
