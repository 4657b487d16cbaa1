"""What may be typed after `zoo`: commands, their options and examples. Help answers without importing torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from inference.command.examples import EXAMPLES

Add = Callable[[str, str], argparse.ArgumentParser]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """All commands; which one was typed is `command`."""
    whole = _Parser(
        prog="zoo",
        description="Generative models for Pyro: list them, fit one to data, sample, encode, impute, forecast, ask.",
        epilog=EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog=EXAMPLES.get(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name != "demo":
            command.add_argument("--module", metavar="FILE.py", help="run this file first, for its pairs")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command

    _about(add)
    _score(add)
    _check(add)
    _compare(add)
    _with_folder(add)
    _backtest(add)
    _query(add)
    _rows(add)
    _plot(add)
    _compress(add)
    demo = add("demo", "fit two models to real data, say what came out, leave pictures")
    demo.add_argument("--out", default="demo", metavar="DIR", help="where the pictures go; default: demo")
    demo.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")
    return whole


def _about(add: Add) -> None:
    """list, info, runs, fit."""
    listing = add("list", "list the models by family, or the data sets")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern of names, such as 'gaussian_*'")
    listing.add_argument("--data", action="store_true", help="list the data sets instead")

    info = add("info", "describe a model: what it is, its arguments, its graph")
    info.add_argument("name", metavar="NAME", help="name of the model, the folder of a saved one, or a .bif file")
    info.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the model")
    info.add_argument("--graph", metavar="FILE", help="also draw the graph there, .png, .svg or .pdf (needs graphviz)")

    runs = add("runs", "list the runs in a folder: model, data, what came of it, when, and whether it can go on")
    runs.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where to look; default: here")

    fit = add("fit", "fit a model and leave a run folder: weights, metrics, posterior, pictures")
    fit.add_argument("name", metavar="NAME", help="name of the model, or a .bif file, whose tables are learned anew")
    fit.add_argument(
        "--data",
        required=True,
        help="name of a data set, or a file: .csv, .tsv, .txt, .dat, .arff, .npy, .npz, .parquet, IDX",
    )
    fit.add_argument(
        "--target", "--y", metavar="COLUMN", help="the column of the table that is the response or class y"
    )
    fit.add_argument(
        "--formula",
        metavar="FORMULA",
        help="of a regression on a table: the response and its terms, such as 'y ~ age + poly(income, 2) + town'",
    )
    fit.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="COLUMN=KIND",
        help="in a mixed table, what a column is: real, positive, count, binary, categorical, ordinal, ignored; with "
        "its levels in order, as stage=ordinal:low,mid,high",
    )
    fit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the model")
    _reading(fit)
    fit.add_argument("--out", required=True, metavar="DIR", help="the run folder to write")
    fit.add_argument("--replace", action="store_true", help="replace an earlier run that is there")
    on = "go on, bit for bit, with a fit that was broken off there, or that is to take more steps; else begin"
    fit.add_argument("--resume", action="store_true", help=on)
    on = "steps between two checkpoints, from which --resume goes on; default: a minute"
    fit.add_argument("--checkpoint-steps", type=_positive, metavar="N", help=on)
    fit.add_argument(
        "--method",
        choices=["infer", "svi", "em"],
        help="infer: the cheapest road to a posterior whose evidence holds, which is said in a line; svi: a "
        "variational fit; em: expectation-maximisation, of some models. Default: infer, but svi where an option of a "
        "fit is given (--epochs to --log below, --set guide=…, --device), and for what the roads do not suit: "
        "networks, more than 200 latents, more than 100,000 rows",
    )
    fit.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="of --method infer: when no further road begins, and the best so far is kept; default: 120",
    )
    fit.add_argument("--epochs", type=float, help="passes over the data; default: until the ELBO has converged")
    fit.add_argument("--steps", type=int, help="optimiser steps, instead of epochs")
    fit.add_argument("--max-seconds", type=float, metavar="SECONDS", help="stop at the next step after this time")
    fit.add_argument("--batch-size", type=int, help="observations a step; default: all up to 512, else 128")
    fit.add_argument("--lr", type=float, help="step size of Adam; default: chosen from the model")
    fit.add_argument("--objective", default="elbo", choices=["elbo", "iwae"], help="bound to climb; default: elbo")
    fit.add_argument(
        "--particles", type=int, help="draws from the guide a step; default: 1, 10 for iwae, 32 for a flow"
    )
    fit.add_argument("--validation", type=float, default=0.0, help="fraction of rows held out; default: 0")
    fit.add_argument("--log", metavar="FILE", help="also write loss and terms of the bound there, as .csv")
    _scoring(fit)
    fit.add_argument("--no-score", action="store_true", help="leave scores and pictures to `zoo score`")
    fit.add_argument("--seed", type=int, default=0, help="default: 0")
    fit.add_argument("--device", default="auto", help="auto, cpu, cuda; default: auto")
    fit.add_argument("--double", action="store_true", help="compute in float64")
    fit.add_argument(
        "--threads", type=_positive, default=1, help="processor threads, with whose number last digits vary; default: 1"
    )


def _scoring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--draws", type=_positive, default=1000, help="posterior draws to keep; default: 1000")
    command.add_argument(
        "--score-seconds",
        type=float,
        metavar="SECONDS",
        help="about the time that scores may take: fewer rows and draws are scored if need be; default: "
        "in `fit` four tenths of what went before, in `score` as long as it takes",
    )


def _score(add: Add) -> None:
    score = add("score", "score a fitted model anew: metrics, posterior, pictures; or score data that it has not seen")
    score.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
    score.add_argument(
        "new",
        metavar="DATA",
        nargs="?",
        help="data that it has not seen: says how likely they are to it, and leaves the folder as it is",
    )
    score.add_argument("--data", help="the data that it was fitted to; default: those its card names")
    _reading(score)
    score.add_argument("--out", metavar="FILE", help="of DATA, the .csv file to write a line for each row into")
    score.add_argument("--replace", action="store_true", help="write over a file that is there")
    _scoring(score)
    score.add_argument("--seed", type=int, default=0, help="default: 0")
    score.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _check(add: Add) -> None:
    """check, report."""
    check = add("check", "say whether the posterior of a fitted model can be believed: findings, and a verdict")
    report = add("report", "write a page about a fitted model: a verdict, pictures, numbers, where they come from")
    for command in (check, report):
        command.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
        command.add_argument("--data", help="the data that it was fitted to; default: those its card names")
        command.add_argument(
            "--no-run", action="store_true", help="leave out the chains that start from the guide's draws"
        )
        command.add_argument("--seed", type=int, default=0, help="default: 0")
        command.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    report.add_argument("--out", metavar="FILE", help="the .html file to write; default: report.html in the folder")


def _compare(add: Add) -> None:
    compare = add("compare", "compare fitted models of the same data by their leave-one-out scores")
    compare.add_argument("folders", nargs="+", metavar="RUN", help="run folders of fitted models that were scored")
    compare.add_argument("--out", metavar="FILE", help="also write the table there, as .csv")
    compare.add_argument(
        "--page", metavar="FILE", default="comparison.html", help="the page to write; default: comparison.html"
    )
    compare.add_argument("--replace", action="store_true", help="write over files that are there")


def _with_folder(add: Add) -> None:
    """What works with the run folder of a fitted model and writes a file."""
    for name, about in (
        ("sample", "draw new observations from a fitted model"),
        ("encode", "write the codes of observations, means and standard deviations"),
        ("reconstruct", "write what the codes of observations tell of them"),
        ("impute", "fill the holes of a table, and say how sure each value is"),
        ("forecast", "write the steps after the end of each series, with their dates and intervals"),
        ("predict", "write what is expected of the response at each row of a table, with intervals"),
    ):
        command = add(name, about)
        command.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
        if name == "sample":
            command.add_argument("--number", "-n", type=_positive, default=100, help="observations; default: 100")
            command.add_argument("--prefix", "--prompt", help="of a model of text: what each text starts with")
            command.add_argument(
                "--stop",
                action="append",
                default=[],
                metavar="TEXT",
                help=r"... where a text ends, such as '\n'; may be given several times",
            )
            command.add_argument("--length", type=_positive, default=200, help="... characters; default: 200")
            command.add_argument("--temperature", type=float, default=1.0, help="... below 1 is tamer; default: 1")
            command.add_argument("--top-p", type=float, default=1.0, help="... keep to the likeliest; default: 1")
        else:
            command.add_argument("data", metavar="DATA", help="name of a data set, or a file")
            _reading(command)
            command.add_argument(
                "--unknown",
                default="error",
                choices=["error", "missing"],
                help="what a category is that the model has not seen; default: error",
            )
        if name == "predict":
            command.add_argument("--draws", type=_positive, default=4000, help="posterior draws; default: 4000")
            command.add_argument("--mass", type=float, default=0.9, help="probability of the intervals; default: 0.9")
        if name in ("impute", "forecast"):
            command.add_argument("--draws", type=_positive, default=200, help="draws of each value; default: 200")
            command.add_argument("--mass", type=float, default=0.9, help="probability of the intervals; default: 0.9")
        if name == "impute":
            command.add_argument(
                "--copies",
                type=_positive,
                default=0,
                metavar="K",
                help="also write K tables with draws in the missing cells, for analyses that are pooled; default: none",
            )
        if name == "forecast":
            command.add_argument("--target", metavar="COLUMN", help="the series, in a table; default: that of the fit")
            command.add_argument("--horizon", type=_positive, required=True, help="the number of steps ahead")
        command.add_argument("--out", required=True, metavar="FILE", help="the .csv or .npy file to write")
        if name == "predict":
            command.set_defaults(picture=None)
        else:
            command.add_argument("--picture", metavar="FILE", help="also draw them there, .png, .svg or .pdf")
        command.add_argument("--replace", action="store_true", help="write over files that are there")
        command.add_argument("--seed", type=int, default=0, help="default: 0")
        command.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _backtest(add: Add) -> None:
    """How good forecasts would have been."""
    back = add(
        "backtest", "score forecasts from past origins, each fitted to what was known then, beside the seasonal-naive"
    )
    back.add_argument("source", metavar="RUN|NAME", help="the run folder of a fitted model, or the name of a model")
    back.add_argument("data", metavar="DATA", help="name of a data set, or a file")
    back.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the model by name"
    )
    back.add_argument("--target", metavar="COLUMN", help="the series, in a table; default: that of the fit")
    _reading(back)
    back.add_argument("--horizon", type=_positive, required=True, help="the number of steps ahead")
    back.add_argument("--folds", type=_positive, default=10, help="past origins; default: 10")
    back.add_argument("--stride", type=_positive, default=1, help="steps between origins; default: 1")
    back.add_argument("--season", type=_positive, help="steps in a season, of the naive forecasts; default: looked at")
    back.add_argument("--once", action="store_true", help="fit once, before the first origin")
    back.add_argument("--steps", type=_positive, help="optimiser steps of each fit; default: until it has converged")
    back.add_argument("--draws", type=_positive, default=1000, help="draws of each forecast; default: 1000")
    back.add_argument("--mass", type=float, default=0.9, help="probability of the intervals; default: 0.9")
    back.add_argument("--out", metavar="FILE", help="also write a line for each forecast there, .csv")
    back.add_argument("--replace", action="store_true", help="write over a file that is there")
    back.add_argument("--seed", type=int, default=0, help="default: 0")
    back.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _reading(command: argparse.ArgumentParser) -> None:
    """How a file is read."""
    command.add_argument(
        "--header",
        type=_yes,
        metavar="yes|no",
        help="whether the first row of a text table names the columns; default: it is looked at",
    )


def _query(add: Add) -> None:
    """query, explain."""
    for name, about in (
        ("query", "ask a network for P(variables | evidence)"),
        ("explain", "find the most probable explanation of what a network was told"),
    ):
        command = add(name, about)
        command.add_argument("folder", metavar="RUN", help="the run folder of a fitted network, or a .bif file")
        if name == "query":
            command.add_argument("variables", metavar="VARIABLE", nargs="+", help="what is asked for")
        command.add_argument(
            "--given",
            "--evidence",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="what was observed; or a table file, whose rows are answered one by one",
        )
        command.add_argument("--do", action="append", default=[], metavar="NAME=VALUE", help="what is set from outside")
        command.add_argument("--mass", type=float, default=0.9, help="probability of the intervals; default: 0.9")
        _reading(command)
        command.add_argument("--out", metavar="FILE", help="the .csv file to write the answers of rows into")
        command.add_argument("--replace", action="store_true", help="write over a file that is there")
        if name == "query":
            command.add_argument("--picture", metavar="FILE", help="also draw the graph with what it believes")
        command.add_argument("--seed", type=int, default=0, help="default: 0")
        command.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _rows(add: Add) -> None:
    """anomaly, profile."""
    anomaly = add("anomaly", "write how strange each observation is: minus its log density")
    profile = add("profile", "say what sets the clusters of a model apart, column by column")
    for command in (anomaly, profile):
        command.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
        command.add_argument("data", metavar="DATA", help="name of a data set, or a file")
        _reading(command)
        command.add_argument(
            "--unknown",
            default="error",
            choices=["error", "missing"],
            help="what a category is that the model has not seen; default: error",
        )
        command.add_argument("--replace", action="store_true", help="write over files that are there")
        command.add_argument("--seed", type=int, default=0, help="default: 0")
        command.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")
        command.set_defaults(picture=None)
    anomaly.add_argument("--tight", action="store_true", help="the log density itself, not the bound: slower")
    anomaly.add_argument("--draws", type=_positive, help="of each row; default: 20, or 5000 with --tight")
    anomaly.add_argument("--reference", metavar="DATA", help="usual rows, which the model was not fitted to")
    anomaly.add_argument("--out", required=True, metavar="FILE", help="the .csv or .npy file to write")
    profile.add_argument("--labels", metavar="COLUMN", help="compare rows by this column of the data instead")
    profile.add_argument("--out", metavar="FILE", help="also write the table there, .csv")


def _plot(add: Add) -> None:
    plot = add("plot", "draw a picture of a fitted model and its data")
    plot.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
    plot.add_argument(
        "what",
        nargs="?",
        metavar="KIND",
        help="map, predictive, samples, reconstructions, traversals, interpolations, posterior, density, curve, "
        "states, imputations, network or tree; default: the one that suits best",
    )
    plot.add_argument("--data", help="name of a data set, or a file; default: the data of the fit")
    plot.add_argument("--color", metavar="COLUMN", help="of a map: a column of the data, y, or cluster")
    plot.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of that kind")
    _reading(plot)
    plot.add_argument("--out", required=True, metavar="FILE", help="the .png, .svg or .pdf file to write")
    plot.add_argument("--replace", action="store_true", help="write over a file that is there")
    plot.add_argument("--seed", type=int, default=0, help="default: 0")
    plot.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _compress(add: Add) -> None:
    """compress, decompress."""
    pack = add("compress", "compress files without loss by a fitted model, and say what that saves")
    pack.add_argument("folder", metavar="RUN", help="the run folder of a fitted model")
    pack.add_argument("files", metavar="FILE", nargs="+", help="a .csv, .tsv, .dat or .npy; a .txt of a model of text")
    pack.add_argument("--out", required=True, metavar="X.zoo", help="the file to write; of several FILEs, X.NAME.zoo")
    pack.add_argument("--with-model", action="store_true", help="put the model's tables into the file too")
    pack.add_argument("--chunk", type=_positive, default=4096, metavar="ROWS", help="coded together; default: 4096")
    _reading(pack)
    back = add("decompress", "write what was compressed, byte for byte")
    back.add_argument("file", metavar="X.zoo", help="the compressed file")
    back.add_argument("--run", metavar="RUN", help="the run folder of the model, where the file does not hold it")
    back.add_argument("--out", metavar="FILE", help="the file to write; default: X with the ending of its kind")
    for command in (pack, back):
        command.add_argument("--replace", action="store_true", help="write over files that are there")
        command.add_argument("--threads", type=_positive, default=1, help="processor threads; default: 1")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"expected yes or no, got {text!r}")
    return text == "yes"
