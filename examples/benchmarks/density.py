"""How well are pictures modelled? Held-out likelihood of `gaussian_vae`, beside a hand-written VAE and pythae's.

    python examples/benchmarks/density.py [--quick] [--out FILE.json] [--only elbo,twin]
                                          [--epochs E] [--rows R] [--seeds S]

Data: Fashion-MNIST, a pixel being 1 where its grey level is above 127 and else 0. A threshold hangs on no random number
generator, so that anyone can make the same bits again; a model of them is not to be compared with one of dynamically or
otherwise binarised pictures.

Score: -log p(x) in nats an image, by importance sampling with k = 5,000 codes from each model's own encoder, on the
first 1,000 test images; lower is better. In expectation it is an upper bound, which closes as k grows.

Every model has the same training images, code (20 dimensions), layers (784-200-20-200-784 with SiLU between; `conv`
and `residual` have channels instead), Adam, step size, batch size and epochs. The twin is a VAE as one writes it in
PyTorch, with a loop of its own: initial weights, cosine schedule and average over the last tenth as ours, but no
clipping. pythae's VAE and IWAE (pip install pythae; left out where that is missing) get the twin's networks in pythae's
own trainer, whose cosine schedule goes down by the epoch, and which does not average. One thread; seconds of CPU time.

Each finished fit goes into the JSON file at once; the next start skips what is there with the same settings. Several
processes may share the file: give each its own `--only`.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import logging
import math
import os
import platform
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyro
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

import inference
import zoo
from inference.codes.gaps import log_marginal
from inference.fitting.schedule import learning_rate
from zoo import datasets

HIDDEN, CHANNELS = (200,), (8, 16)
PARTICLES = 50  # of iwae, ours and pythae's
OURS = {  # arguments of the pair, and of fit
    "elbo": ({}, {}),
    "iwae": ({}, {"objective": "iwae", "particles": PARTICLES}),
    "vamp": ({"prior": "vamp"}, {}),
    "flow": ({"guide": "flow"}, {}),
    "vamp_flow": ({"prior": "vamp", "guide": "flow"}, {}),
    "conv": ({"net": "conv", "hidden": CHANNELS}, {}),
    "residual": ({"net": "residual", "hidden": CHANNELS}, {}),
}
PEERS = {"twin": None, "pythae_vae": "VAE", "pythae_iwae": "IWAE"}  # pythae's class
PEER_OF = {"elbo": ("twin", "pythae_vae"), "iwae": ("pythae_iwae",)}
ONE_SEED = ("iwae", "pythae_iwae", "conv", "residual")  # the long ones, where not told


@dataclass(frozen=True)
class Settings:
    """What all models share."""

    rows: int = 60_000  # of the training images, the first ones
    epochs: int = 8
    batch: int = 100
    lr: float = 3e-3
    latent: int = 20
    test: int = 1_000  # rows scored, the first ones
    particles: int = 5_000  # k


QUICK = Settings(rows=1_000, epochs=1, test=20, particles=100)


def load(settings):
    """Training and test images as rows of zeros and ones."""
    train, test = (datasets.load(name).x for name in ("fashion_mnist", "fashion_mnist_test"))
    return binarised(train[: settings.rows]), binarised(test[: settings.test])


def binarised(grey):
    return (grey > 127).float()


# ---------------------------------------------------------------- ours


def ours(method, settings, train, test, seed):
    """Fit and score one of our pairs; returns log p of each test row, CPU seconds of both, and parameters."""
    config, options = OURS[method]
    torch.manual_seed(seed)
    config = {"features": train.shape[1], "latent": settings.latent, "hidden": HIDDEN, **config}
    pair = zoo.create("gaussian_vae", **config)
    began = time.process_time()
    inference.fit(
        pair,
        train,
        epochs=settings.epochs,
        batch_size=settings.batch,
        lr=settings.lr,
        seed=seed,
        device="cpu",
        progress=False,
        **options,
    )
    fitted = time.process_time()
    log_p = log_marginal(pair, test, particles=settings.particles, seed=seed)
    return log_p, (fitted - began, time.process_time() - fitted), size(pair)


# ---------------------------------------------------------------- the twin


def linear(inputs, outputs, gain=1.0):
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer


class Twin(nn.Module):
    """A VAE of Bernoulli pixels, as one writes it by hand."""

    def __init__(self, features, hidden, latent):
        super().__init__()
        self.encoder = nn.Sequential(linear(features, hidden), nn.SiLU(), linear(hidden, 2 * latent, gain=0.5))
        self.decoder = nn.Sequential(linear(latent, hidden), nn.SiLU(), linear(hidden, features, gain=0.5))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=-1)  # mean and log variance

    def forward(self, x):
        """Minus the ELBO, in nats an image."""
        loc, log_var = self.encode(x)
        z = loc + (0.5 * log_var).exp() * torch.randn_like(loc)
        likelihood = -functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = 0.5 * (loc.square() + log_var.exp() - 1 - log_var).sum()
        return (kl - likelihood) / len(x)


def fit_twin(net, train, settings, seed):
    torch.manual_seed(seed)
    steps = settings.epochs * len(train) // settings.batch
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.lr, fused=True)
    schedule = LambdaLR(optimiser, lambda step: learning_rate("cosine", step, steps))
    average = AveragedModel(net)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < settings.batch:
            order = torch.cat([order, torch.randperm(len(train))])
        rows, order = order[: settings.batch], order[settings.batch :]
        optimiser.zero_grad()
        net(train[rows]).backward()
        optimiser.step()
        schedule.step()
        if step >= steps - round(0.1 * steps):
            average.update_parameters(net)
    return average.module


@torch.no_grad()
def importance(net, x, particles, seed):
    """log 1/k sum_k p(x, z_k) / q(z_k | x), of one row after another, (N,)."""
    torch.manual_seed(seed)
    log_p = []
    for row, loc, log_var in zip(x, *net.encode(x), strict=True):
        noise = torch.randn(particles, len(loc)).to(x.dtype)
        z = loc + (0.5 * log_var).exp() * noise
        logits = net.decoder(z)  # (k, D)
        log_prior_over_q = 0.5 * (noise.square() + log_var - z.square()).sum(-1)
        log_weight = logits @ row - functional.softplus(logits).sum(-1) + log_prior_over_q
        log_p.append(log_weight.logsumexp(0) - math.log(particles))
    return torch.stack(log_p)


def peer(method, settings, train, test, seed):
    """Fit and score the twin or one of pythae's; see `ours`."""
    torch.manual_seed(seed)
    net = Twin(train.shape[1], *HIDDEN, settings.latent)
    began = time.process_time()
    net = fit_twin(net, train, settings, seed) if method == "twin" else fit_pythae(method, net, train, settings, seed)
    fitted = time.process_time()
    log_p = importance(net, test, settings.particles, seed)
    return log_p, (fitted - began, time.process_time() - fitted), size(net)


# ---------------------------------------------------------------- pythae


@contextmanager
def silence():
    """Without the log and the bars of pythae's trainer."""
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def fit_pythae(method, net, train, settings, seed):
    """Train `net`, in place, by pythae's VAE or IWAE in pythae's trainer; the networks after the last epoch."""
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = net.encoder

        def forward(self, x):
            loc, log_var = self.net(x).chunk(2, dim=-1)
            return ModelOutput(embedding=loc, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = net.decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    kind = PEERS[method]
    options = {"number_samples": PARTICLES} if kind == "IWAE" else {}
    config = getattr(models, f"{kind}Config")(
        input_dim=(train.shape[1],), latent_dim=settings.latent, reconstruction_loss="bce", **options
    )
    model = getattr(models, kind)(config, encoder=Encoder(), decoder=Decoder())
    with tempfile.TemporaryDirectory() as folder, silence():
        training = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch,
            learning_rate=settings.lr,
            scheduler_cls="CosineAnnealingLR",
            scheduler_params={"T_max": settings.epochs},
            no_cuda=True,
            seed=seed,
        )
        BaseTrainer(model, train_dataset=BaseDataset(train, torch.zeros(len(train))), training_config=training).train()
    return net


# ---------------------------------------------------------------- results, kept as they come


def size(net):
    return sum(parameter.numel() for parameter in net.parameters())


def wanted(method, settings):
    """What a stored result must have been made with, to be taken instead of a new one."""
    return json.loads(json.dumps({**asdict(settings), "hidden": HIDDEN, "method": OURS.get(method, PEERS.get(method))}))


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


@contextmanager
def locked(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def store(path, key, result):
    """Add one result to the file, whole or not at all, whoever else writes to it."""
    with locked(path.parent):
        results = {**read(path), key: result}
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(results))
        new.replace(path)


def done(path, settings, methods=(*OURS, *PEERS)):
    """Results that these settings gave: method -> seed -> result."""
    found = {method: {} for method in methods}
    for key, result in read(path).items():
        method, seed = key.split("/")
        if method in found and result["settings"] == wanted(method, settings):
            found[method][int(seed)] = result
    return {method: dict(sorted(seeds.items())) for method, seeds in found.items() if seeds}


# ---------------------------------------------------------------- the table


def nll(seeds):
    """Minus log p, (seeds, rows)."""
    return -torch.tensor([result["log_p"] for result in seeds.values()], dtype=torch.float64)


def difference(found, method, other):
    """Mean of NLL(method) - NLL(other), and its standard errors over test rows (paired) and over seeds (if several)."""
    a, b = nll(found[method]), nll(found[other])
    rows = a.mean(0) - b.mean(0)
    seeds = math.sqrt(sum(float(v.mean(1).var()) / len(v) for v in (a, b) if len(v) > 1))
    return float(rows.mean()), float(rows.std()) / math.sqrt(len(rows)), seeds


def table(found):
    """One line a model, in Markdown."""
    lines = [
        "| model | obtained, nats | peer | obtained - twin | published | seeds | parameters | fit, s | score, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, seeds in found.items():
        values = nll(seeds)
        name = f"`gaussian_vae`, {method}" if method in OURS else method.replace("_", " ")
        peers = "; ".join(
            f"{p.replace('_', ' ')} {nll(found[p]).mean():.2f}" for p in PEER_OF.get(method, ()) if p in found
        )
        gap = "-"
        if "twin" in found and method != "twin":
            mean, rows, _ = difference(found, method, "twin")
            gap = f"{mean:+.2f} ± {rows:.2f}"
        means = values.mean(1)
        spread = f"{len(seeds)}" + (f" ({means.min():.2f} to {means.max():.2f})" if len(seeds) > 1 else "")
        cpu = torch.tensor([result["seconds"] for result in seeds.values()]).mean(0)
        parameters = next(iter(seeds.values()))["parameters"]
        error = float(values.mean(0).std()) / math.sqrt(values.shape[1])
        lines.append(
            f"| {name} | {means.mean():.2f} ± {error:.2f} | {peers or '-'} | {gap} | - | {spread} | {parameters:,} "
            f"| {cpu[0]:.0f} | {cpu[1]:.0f} |"
        )
    return "\n".join(lines)


def claims(found):
    """What ought to hold, each with what was found."""
    for method, other, least in (
        ("elbo", "twin", "level with or below"),
        ("iwae", "elbo", "below"),
        *((better, other, "below") for better in ("vamp", "flow", "vamp_flow") for other in ("elbo", "iwae")),
    ):
        if method in found and other in found:
            mean, rows, seeds = difference(found, method, other)
            error = math.hypot(rows, seeds)
            holds = mean < 2 * error if least != "below" else mean < -2 * error
            yield (
                f"{method} {least} {other}: {'yes' if holds else 'NO'} "
                f"({mean:+.2f}, standard error {rows:.2f} over rows and {seeds:.2f} over seeds)"
            )


def versions():
    names = {"torch": torch.__version__, "pyro": pyro.__version__, "zoo": zoo.__version__}
    return {**names, "python": platform.python_version()}


def main(arguments=None, load=load):
    """Fit and score what is missing, and print the table; returns the results by method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it runs; the numbers mean nothing")
    parser.add_argument("--out", type=Path, help="where results are kept (density.json, or density_quick.json)")
    parser.add_argument("--only", help=f"comma-separated, of: {', '.join((*OURS, *PEERS))}")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int, help="training images")
    parser.add_argument("--seeds", type=int, help="fits of each model (3, and 1 of the long ones)")
    options = parser.parse_args(arguments)
    methods = options.only.split(",") if options.only else [*OURS, *PEERS]
    if unknown := set(methods) - {*OURS, *PEERS}:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join((*OURS, *PEERS))}")
    given = {name: value for name in ("epochs", "rows") if (value := getattr(options, name)) is not None}
    settings = replace(QUICK if options.quick else Settings(), **given)
    path = (options.out or Path("density_quick.json" if options.quick else "density.json")).resolve()
    if importlib.util.find_spec("pythae") is None and any(PEERS.get(method) for method in methods):
        print("pythae is not installed (pip install pythae): left out", flush=True)
        methods = [method for method in methods if not PEERS.get(method)]

    torch.set_num_threads(1)
    train, test = load(settings)
    print(f"{len(train):,} training images, {settings}, 1 thread, {versions()}", flush=True)
    for seed in range(options.seeds or (1 if options.quick else 3)):
        for method in methods:
            if seed and options.seeds is None and method in ONE_SEED:
                continue
            if seed in done(path, settings).get(method, {}):
                continue
            log_p, seconds, parameters = (ours if method in OURS else peer)(method, settings, train, test, seed)
            result = {
                "settings": wanted(method, settings),
                "log_p": [round(value, 4) for value in log_p.tolist()],
                "seconds": seconds,
                "parameters": parameters,
                "versions": versions(),
            }
            store(path, f"{method}/{seed}", result)
            print(
                f"{method}, seed {seed}: {-log_p.mean():.2f} nats; CPU s {seconds[0]:.0f} + {seconds[1]:.0f}",
                flush=True,
            )
    found = done(path, settings)
    print(f"\n{table(found)}\n")
    print("\n".join(claims(found)))
    return found


if __name__ == "__main__":
    sys.exit(not main())
