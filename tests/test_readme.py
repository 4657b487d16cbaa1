"""The pages for readers tell the truth: their snippets run, print what they show, and name only what exists."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import inference
import zoo
from inference.command import files
from inference.command import words as typed
from inference.command.parser import parser
from zoo import registry
from zoo.base import registered
from zoo.config import check_config

ROOT = Path(__file__).parents[1]
README, EXAMPLES, BENCHMARKS = "README.md", "examples/README.md", "examples/benchmarks/README.md"
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in (README, EXAMPLES, BENCHMARKS)}
SNIPPETS = {page: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for page, text in TEXT.items()}
OUTPUTS = re.findall(r"```python\n.*?```\n\n```text\n(.*?)```", TEXT[README], re.DOTALL)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Runs a snippet as someone would who pasted it: in a folder of their own, on a processor, without a screen."""
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a GPU draws other numbers
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))  # a snippet registers a pair of its own

    def run(code, names):
        assert len(code.splitlines()) <= 15 or "@register" in code, "too long to take in"
        exec(compile(code, "snippet", "exec"), names)

    return run


# --- what is printed --------------------------------------------------------------------------------------------------

NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)"


def words(text):
    """A text without its numbers, without times, and without regard to how many spaces stand between."""
    return re.sub(NUMBER, "#", timeless(text)).split()


def timeless(text):
    return re.sub(r"\b\d+\.\d+ s\b", "some s", text)


def numbers(text):
    """Each number of a text, with one unit of its last place."""
    found = re.findall(NUMBER, timeless(text))
    return [(float(number), 10.0 ** -len(number.partition(".")[2])) for number in found]


def differs(shown, printed):
    """What of the output that is shown is not what was printed: words, or a number by more than rounding and 1 %."""
    if words(shown) != words(printed):
        return "words"
    for (one, unit), (other, rounding) in zip(numbers(shown), numbers(printed), strict=True):
        if abs(one - other) > unit + rounding + 0.01 * abs(other):
            return f"{one:g} is shown, {other:g} is printed"
    return ""


def test_outputs_are_compared_by_words_and_numbers():
    shown = "Fit(500 steps, loss 4.35, 1.0 s)\nlocs[0, 0]   -4.29  80.1"
    assert numbers(shown) == [(500, 1), (4.35, 0.01), (0, 1), (0, 1), (-4.29, 0.01), (80.1, 0.1)]
    assert not differs(shown, shown.replace("1.0 s", "17.2 s").replace("   ", " ").replace("-4.29", "-4.2899"))
    assert differs(shown, shown.replace("-4.29", "-4.40")) == "-4.29 is shown, -4.4 is printed"
    assert differs(shown, shown.replace("-4.29", "4.29"))
    assert differs(shown, shown.replace("loss", "gain")) == "words"
    assert differs(shown, shown + "\nmore") == "words"


def test_the_readme_prints_what_it_shows(reader, capsys):
    assert len(SNIPPETS[README]) == len(OUTPUTS) == 3
    assert "inference.fit(" in SNIPPETS[README][0], "fitting comes first"
    names = {"__name__": "snippet"}  # one for all: the second goes on from the first
    for code, shown in zip(SNIPPETS[README], OUTPUTS, strict=True):
        reader(code, names)
        printed = capsys.readouterr().out
        found = differs(shown, printed)
        assert not found, f"README.md: {found}; under the snippet there should be\n\n{printed}"


def test_the_readme_can_be_read_at_one_sitting():
    assert len(TEXT[README].splitlines()) <= 175


# --- snippets and commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(SNIPPETS[EXAMPLES])))
def test_a_snippet_runs(number, reader, capsys):
    code = SNIPPETS[EXAMPLES][number]
    reader(code, {"__name__": "snippet"})
    if "@register" in code:
        counts = torch.poisson(torch.tensor([2.0, 10.0, 30.0]).expand(50, 3))
        pair = zoo.create("counts")
        inference.fit(pair, counts, steps=300, progress=False)
        rate = inference.draw(pair, counts, 200)["rate"].mean((0, 1))
        assert torch.allclose(rate, counts.mean(0), rtol=0.1)
    else:
        assert capsys.readouterr().out.strip()


def test_there_is_a_snippet_for_each_use_and_one_for_a_pair_of_your_own():
    assert len(SNIPPETS[EXAMPLES]) == 17
    assert sum("@register" in snippet for snippet in SNIPPETS[EXAMPLES]) == 1


def test_every_script_is_on_the_list():
    for script in (ROOT / "examples").glob("*.py"):
        assert f"[{script.name}]({script.name})" in TEXT[EXAMPLES], f"{EXAMPLES} has no line about {script.name}"


COMMANDS = [
    command
    for text in TEXT.values()
    for command in re.findall(r"^(zoo .*?)(?:  +#.*)?$", text, re.MULTILINE) + re.findall(r"`(zoo [^`]*)`", text)
    if command != "zoo info NAME"
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command):
    options = parser().parse_args(shlex.split(command)[1:])
    if "name" in options and options.name.endswith(".bif"):
        assert files.load(options.name).edges
    elif "name" in options:
        config = typed.arguments(options.name, typed.named(options.set))
        if "edges" in config:  # between columns that only the data know
            check_config(options.name, registered(options.name).__init__, (), config)
        else:
            zoo.create(options.name, **config)


def test_there_are_commands():
    assert len(COMMANDS) >= 16


# --- the table of models, and their files -----------------------------------------------------------------------------

BEGIN, END = "<!-- table: models -->\n", "<!-- end of table -->"
HEAD = "| pair | what it is | and it can |\n| --- | --- | --- |\n"
CAN = {  # each takes a pair, draws of its globals and a batch
    "missing values": lambda pair, draws, batch: inference.log_likelihood(pair, draws, holed(batch)),
    "`impute`": lambda pair, draws, batch: inference.impute(pair, batch, draws=2),
    "`encode`": lambda pair, draws, batch: inference.encode(pair, batch, draws=2),
    "`refine`": lambda pair, draws, batch: inference.refine(pair, batch, steps=2),
    "`assignments`": inference.assignments,
    "`forecast`": lambda pair, draws, batch: inference.forecast(pair, draws, batch, horizon=2),
    "`smooth`": inference.smooth,
    "`query`": lambda pair, draws, batch: inference.query(pair, draws, pair.schema.names[0] if pair.schema else "x0"),
    "`importance`": inference.importance,
    "`guide=`": lambda pair, draws, batch: zoo.create(pair.registry_name, guide="laplace"),
    '`fit(method="em")`': lambda pair, draws, batch: inference.fit(pair, batch, method="em", progress=False),
}


def holed(batch):
    x = batch.x.clone(memory_format=torch.contiguous_format)
    x = x if x.is_floating_point() else x.float()
    x.view(-1)[-1] = torch.nan
    return batch.but(x=x)


def abilities(name):
    """What of `CAN` a small pair of this name really does; it refuses the rest with a ValueError."""
    takes = inspect.signature(registered(name)).parameters
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pair = zoo.create(name, **({"missing": 1} if "missing" in takes else {}))
        batch, _ = pair.simulate(12)
    draws = inference.draw(pair, batch, 2)
    for ability, attempt in CAN.items():
        try:
            attempt(pair, draws, batch)
        except ValueError:
            continue
        yield ability


def file_of(name):
    return Path(sys.modules[registered(name).__module__].__file__).relative_to(ROOT)


ROWS = TEXT[README].partition(BEGIN)[2].partition(END)[0].removeprefix(HEAD).splitlines()
NAMES = sorted((name for name in zoo.names() if registered(name).__module__.startswith("zoo.")), key=file_of)


def test_the_table_of_models_is_the_registry():
    assert [row.split("`")[1] for row in ROWS] == NAMES
    assert HEAD in TEXT[README]


@pytest.mark.filterwarnings("ignore")  # two draws of a pair that has not been fitted are no good, and it says so
@pytest.mark.parametrize("name", NAMES)
def test_the_row_of_a_model_says_what_it_is_and_can(name):
    about = inspect.getdoc(registered(name)).partition("\n")[0]
    row = f"| [`{name}`]({file_of(name).as_posix()}) | {about} | {', '.join(abilities(name)) or '–'} |"
    assert row in ROWS, f"README.md: the row of {name} should be\n{row}"


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_a_model_says_what_it_was_held_against(name):
    about = sys.modules[registered(name).__module__].__doc__
    assert "Held against" in about, f"{file_of(name)} says nothing of its evidence"
    tests = re.findall(r"`(test_\w+\.py)`", about.partition("Held against")[2])
    assert tests, f"{file_of(name)} names no test"
    for test in tests:
        assert list((ROOT / "tests").rglob(test)), f"{file_of(name)} names {test}, which is not there"


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(text):
    """What may stand after a # in a link to a page: its headings as GitHub writes them, and anchors set by hand."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(
        re.findall(r'<a id="(.*?)">', prose)
    )


LINKS = [
    (page, link)
    for page, text in TEXT.items()
    for link in re.findall(r"\]\((?!https?:)([^)\s]*)\)", text.replace("\n", " "))
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page, link):
    file, _, anchor = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    assert target.exists(), f"{page}: {link} is not there"
    if anchor:
        assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}: no such heading"


def test_anchors_are_those_of_github():
    assert anchors("# A b, c\n## `x` – and 2\n```\n# no\n```\n<a id='z'>") == {"a-b-c", "x--and-2"}
    assert len(LINKS) > 40


@pytest.mark.parametrize("page", TEXT)
def test_files_that_a_page_tells_to_run_are_there(page):
    for path in re.findall(r"(?:python|pytest) ([\w/]+\.py)", TEXT[page]):
        assert (ROOT / path).exists() or path == "my_pair.py", f"{page}: {path}"


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", TEXT[README]))
def test_a_picture_is_there_and_small(picture):
    assert 2_000 < (ROOT / picture).stat().st_size < 150_000
