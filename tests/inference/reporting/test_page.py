"""Pages: what a reader without sight, on a phone or in print finds; what bad input leads to; each kind of pair."""

from __future__ import annotations

import base64
import io
import json
import math
import shutil
import subprocess
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import inference
import zoo
from inference.checking.findings import Check, Finding
from inference.posterior.latents import Posterior
from inference.reporting import door, latents, observed
from inference.reporting.page import Page, check_place
from inference.reporting.parts import Part, affordable, part
from tests.helpers.pages import Read, contrast, faults, rules, too_faint
from tests.helpers.pairs import NAMES

GOOD = Check("line", (Finding("k̂", "ok", "0.1 ≤ 0.7", 0.1, "Yao et al. 2018", "More draws", bears=True),))
BAD = Check(
    "line",
    (
        Finding("R-hat", "wrong", "1.4 of 'mu' > 1.01", 1.4, "Vehtari et al. 2021", "Longer chains", bears=True),
        Finding("codes", "look", "two dimensions say nothing", 2.0, "Burda et al. 2016", "A smaller code"),
        Finding("leave-one-out", "could not be judged", "too few draws"),
        Finding("coverage", "ok", "0.92 in 0.90", 0.92),
    ),
)


@cache
def mixture():
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=2, components=2, guide="multivariate").double()
    data = pair.simulate(40)[0].but(columns=("length", "wait"))
    return pair, data, inference.draw(pair, data, 60)


@cache
def of_mixture():
    pair, data, posterior = mixture()
    return inference.report(pair, data, posterior, found=BAD)


# What is on it -------------------------------------------------------------------------------------------------------
def test_a_page_reads_on_a_phone_in_print_in_the_dark_and_without_sight():
    assert faults(of_mixture().html) == []


def test_the_verdict_comes_first_then_pictures_numbers_and_origins():
    page = Read(of_mixture().html)
    heads = [text.strip() for tag, _, text in page.elements if tag in ("h1", "h2")]
    assert heads[:2] == ["gmm", "Do not trust it"]
    assert heads[2:] == [
        "What model and data look like",
        "What the posterior says",
        "All findings",
        "Where this page comes from",
    ]
    reasons = [text for attrs, text in page.all("li")]
    assert [line.split()[0] for line in reasons] == ["✗", "!", "?"]  # the worst first
    assert "Longer chains." in reasons[0]
    told = " ".join(page.text)
    for words in (
        "Vehtari et al. 2021",
        "1.4 of 'mu' > 1.01",
        "A smaller code",
        torch.__version__,
        "seed",
        "inference.report(",
        "40 observations",
        "locs[0, wait]",
    ):
        assert words in told, words
    assert {text for attrs, text in page.all("span")} == {"wrong", "look", "could not be judged", "ok"}


def test_a_page_of_trust_says_so_and_why():
    page = replace(of_mixture(), check=GOOD)
    assert (page.verdict, page.exit) == ("trust", 0)
    read = Read(page.html)
    assert "Trust it" in [text.strip() for _, text in read.all("h2")]
    assert [text.strip() for _, text in read.all("li")] == ["✓ k̂: 0.1 ≤ 0.7."]


def test_the_numbers_are_those_of_arviz():
    import arviz as az

    pair, data, posterior = mixture()
    frame = az.summary(inference.to_arviz(pair, posterior, data), var_names=["weights"], kind="stats", round_to="none")
    lines = {line["name"]: line for line in of_mixture().summary.values}
    for name in ("weights[0]", "weights[1]"):
        assert lines[name]["mean"] == pytest.approx(frame.loc[name, "mean"], rel=1e-12)
        assert lines[name]["sd"] == pytest.approx(frame.loc[name, "sd"], rel=1e-12)
    assert "r_hat" not in lines["weights[0]"]  # of independent draws it says nothing


def test_json_says_the_same(tmp_path):
    page = of_mixture()
    path = page.save(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == page.html
    told = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert (told["verdict"], told["exit"], told["name"]) == ("do not trust", 2, "gmm")
    assert [f["name"] for f in told["findings"]] == ["R-hat", "codes", "leave-one-out", "coverage"]
    assert told["findings"][0]["value"] == 1.4
    assert told["findings"][2]["value"] is None  # JSON knows no NaN
    kinds = [one["kind"] for one in told["pictures"]]
    assert {"predictive", "density", "map", "densities", "weights", "left_out"} == set(kinds)
    assert told["origins"]["Versions"]["torch"] == torch.__version__
    page.save(path)  # once more: it is ours


def test_nothing_else_is_written_over(tmp_path):
    (tmp_path / "mine.html").write_text("<p>mine")
    (tmp_path / "data.json").write_text("{}")
    page = of_mixture()
    for name in ("mine.html", "data.html"):
        with pytest.raises(ValueError, match="is there already, and no page"):
            page.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"ends in \.html"):
        page.save(tmp_path / "page.txt")
    with pytest.raises(ValueError, match="no folder"):
        check_place(tmp_path / "none" / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.json", "mine.html"]


EVIL = '"><script>alert(1)</script><img src=http://x.org/a.png onerror=alert(2)>{{ 7 * 7 }}'


def test_whatever_data_and_findings_say_is_text(blank):
    pair, data, posterior = mixture()
    check = Check(EVIL, (Finding(EVIL, "wrong", EVIL, source=EVIL, advice=EVIL, bears=True),))
    named = data.but(columns=(EVIL, "wait"))
    page = inference.report(pair, named, posterior, found=check, command=EVIL)
    page = replace(page, name=EVIL, about=EVIL, notes=[EVIL], told=[EVIL])
    assert faults(page.html) == []
    read = Read(page.html)
    assert [attrs for attrs, _ in read.all("img") if attrs.get("src", "").startswith("http")] == []
    assert "49" not in " ".join(text for _, text in read.all("h1"))
    assert any(EVIL in text for _, text in read.all("h1"))
    assert EVIL.split("{", maxsplit=1)[0] in next(text for _, text in read.all("dd"))


def test_a_phone_gets_a_picture_of_its_own_width():
    page = of_mixture()
    two = next(one for one in page.seen if one.kind == "predictive").picture
    wide, narrow = (Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))) for data in (two.wide, two.narrow))
    assert wide.size == two.size
    assert narrow.width < 0.7 * wide.width
    assert narrow.height > wide.height  # panels one below the other
    assert f'srcset="{two.narrow[:60]}' in page.html


# The measures themselves ---------------------------------------------------------------------------------------------
def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes
    assert contrast("#777777", "#ffffff") < 4.5


PLANTED = {
    "alternative text": (' alt="', ' data-alt="', "without an alternative text"),
    "script": ("<main>", "<main><script>1</script>", "<script>"),
    "network": ('<img src="data:', '<img src="https://x/', "img refers to https"),
    "heading": ("<h2>Do not trust it</h2>", "<h3>Do not trust it</h3>", "h1 is followed by h3"),
    "open": ("</main>", "", "closes nothing"),
    "viewport": ('name="viewport"', 'name="other"', "viewport"),
    "width": ("max-width: 58rem;", "min-width: 58rem;", "body: min-width 58rem"),
    "picture": ("max-width: 100%;", "", "wider than the page"),
    "breaking": ("overflow-wrap: anywhere;", "", "overflow-wrap"),
    "tables": ("display: block; }\n  thead", "display: table; }\n  thead", "side by side"),
    "grey": ("--muted: #535a61", "--muted: #8a9199", "muted on page in light"),
    "dark": ("--trust-ink: #b6f0cb", "--trust-ink: #2f7d4d", "trust-ink on trust-back in dark"),
    "style": ("* {", "@import 'x.css'; * {", "refers to something outside"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_of_a_page_is_seen(name):
    before, after, words = PLANTED[name]
    html = of_mixture().html
    assert before in html
    assert any(words in fault for fault in faults(html.replace(before, after)))


def test_the_style_is_read_whole():
    style = Read(of_mixture().html).style
    wheres = {where for where, _, _ in rules(style)}
    assert any("dark" in where for where in wheres)
    assert any("print" in where for where in wheres)
    assert len(rules(style)) == style.count("{") - style.count("@media")
    assert too_faint(style) == []


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for found in map(shutil.which, names) if found), None)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_a_page_without_scrolling_sideways(width, tmp_path):
    if browser() is None:
        pytest.skip("no Chromium on this machine: only the structure of pages and the rules of their style are tested")
    inside = of_mixture().html.replace("&", "&amp;").replace('"', "&quot;")
    script = (
        "const one = document.querySelector('iframe');"
        "const show = () => { document.title = one.contentDocument.documentElement.scrollWidth; };"
        "one.onload = show; show();"
    )
    frame = (
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{inside}"></iframe><script>{script}</script>'
    )
    (tmp_path / "frame.html").write_text(
        f"<!doctype html><meta charset=utf-8><title>none</title>{frame}", encoding="utf-8"
    )
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert f"<title>{width}</title>" in done.stdout


# Bad input -----------------------------------------------------------------------------------------------------------
def spoilt(posterior, change):
    return replace(posterior, draws={**posterior.draws, "weights": change(posterior["weights"].clone())})


def with_nan(value):
    value[0, 4, 0] = math.nan
    return value


WRONG = {
    "another's": (lambda right: Posterior({"nonsense": torch.zeros(1, 6)}, size=6), "lacks site"),
    "NaN": (lambda right: spoilt(right, with_nan), "chain 0, draw 4: expected a finite number"),
    "shape": (lambda right: spoilt(right, lambda v: v[..., None]), "expected shape (chain, draw"),
    "empty": (lambda right: Posterior({n: v[:, :0] for n, v in right.draws.items()}), "at least one draw"),
    "as local": (lambda right: replace(right, local=frozenset(right.draws)), "expected draws of a global latent"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_draws_that_are_not_of_the_pair_are_not_trusted_and_the_rest_is_made(kind, blank):
    pair, data, right = mixture()
    make, words = WRONG[kind]
    random = torch.get_rng_state()
    page = inference.report(pair, data, make(right), run=False)
    assert torch.equal(random, torch.get_rng_state())
    assert page.verdict == "do not trust"
    assert words in page.check["posterior and data"].told
    assert [one.kind for one in page.seen if one.picture]  # of the guide's own draws
    assert "not of this model and these data" in page.summary.note
    assert faults(page.html) == []


def test_draws_of_other_rows_are_not_trusted():
    pair = zoo.create("gaussian_autoencoder", features=4, latent=2)
    data = pair.simulate(9)[0]
    posterior = inference.draw(pair, data.select(slice(0, 5)).but(total=5), 3)
    known, check = door._judged(inference.data.check.check(pair, data), posterior, None, False, 0)
    assert known is None
    assert "of 5 rows, the data have 9" in check["posterior and data"].told


def test_what_is_no_posterior_or_no_data_or_no_check_is_refused():
    pair, data, posterior = mixture()
    for given in ("x", 7, {"weights": torch.zeros(1, 6)}):
        with pytest.raises(ValueError, match="expected a Posterior"):
            inference.report(pair, data, given)
    with pytest.raises(ValueError, match=r"expected shape \(N, 2\)"):
        inference.report(pair, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="found: expected a Check"):
        inference.report(pair, data, posterior, found="trust")
    with pytest.raises(ValueError, match="run: expected"):
        inference.report(pair, data, posterior, run="no")


def test_too_few_draws_are_told_and_the_rest_is_made(blank):
    pair, data, posterior = mixture()
    page = inference.report(pair, data, posterior.thin(2), found=BAD)
    assert "too few draws for a summary: expected at least 4 of each chain, got 2" in page.summary.note
    missing = {one.kind: one.missing for one in page.drawn if one.missing}
    assert "too few draws" in missing["densities"]
    assert missing["left_out"]
    assert all(one.picture for one in page.seen)
    assert faults(page.html) == []


def test_a_run_of_another_version_is_told(blank):
    pair, data, posterior = mixture()
    pair.card = {"versions": {"zoo": "0.0.1", "torch": torch.__version__}}
    try:
        page = inference.report(pair, data, posterior, found=GOOD)
    finally:
        pair.card = {}
    assert page.notes == ["The model was fitted by other versions: zoo 0.0.1 (now 0.1.0)."]
    assert "0.0.1" in page.html


def test_a_part_that_fails_says_why():
    def fails():
        raise RuntimeError("out of paper\nand ink")

    assert part("map", "a map", fails) == Part("map", "A map of the observations", missing="RuntimeError: out of paper")


def test_a_page_is_never_too_large():
    one = part("weights", "weights", lambda: latents.weights(np.zeros(30)))
    kept = affordable([one, one, one], most=2 * one.picture.bytes)
    assert [bool(each.picture) for each in kept] == [True, True, False]
    assert "larger than 5 MB" in kept[2].missing


def test_weights_of_a_point_have_no_picture():
    assert "not finite" in part("weights", "", lambda: latents.weights(np.full(30, np.nan))).missing


# Every pair ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_has_pictures_that_suit_it(name):
    pair = zoo.create(name)
    given = inference.data.check.check(pair, pair.simulate(12)[0])
    kinds = observed.chosen(given)
    assert {"predictive", "reconstructions"} & set(kinds)
    assert all(observed._seen(given, kind) for kind in kinds)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_has_a_page(name, tmp_path):
    torch.manual_seed(0)
    pair = zoo.create(name)
    data = pair.simulate(40)[0]
    inference.fit(pair, data, steps=30, progress=False)
    page = inference.report(pair, data, run=False)
    assert isinstance(page, Page)
    assert faults(page.html) == []
    missing = {one.kind: one.missing for one in (*page.seen, *page.drawn) if one.missing}
    assert missing == {}
    page.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
