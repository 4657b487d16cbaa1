"""Which test files cover a file of the numeric core: a map by folder, after the test of the file's own name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PARTS = "tests/zoo/parts/test_{}.py".format
_CHAINS = [*map(_PARTS, ("baum_welch", "chain", "forward_backward", "transitions")), "tests/zoo/sequences/test_hmm.py"]
_QUERIES, _STATES = "tests/inference/questions/test_queries.py", "tests/inference/questions/test_sequences.py"
_TREES = [*(f"tests/zoo/regression/test_{name}.py" for name in ("decision_tree", "random_forest"))]
_IMPORTANCE = "tests/inference/questions/test_importance.py"

# What covers a file: the longest beginning of its path that stands here, after the test of its own name. Without
# conformance, whose checks take minutes for each pair.
COVER: dict[str, list[str]] = {
    "inference/codes": ["tests/inference/codes"],
    "inference/fitting": ["tests/inference/fitting"],
    "inference/posterior": ["tests/inference/posterior"],
    "inference/questions": ["tests/inference/questions", "tests/zoo/regression/test_random_forest.py"],
    "inference/questions/sequences.py": [_STATES, "tests/zoo/sequences"],
    "inference/running": ["tests/inference/running", "tests/inference/codes", "tests/inference/posterior"],
    "inference/sampling": ["tests/inference/sampling"],
    "zoo/autoencoders": ["tests/zoo/autoencoders"],
    "zoo/graphs": ["tests/zoo/graphs", _PARTS("networks"), _QUERIES],
    "zoo/guides.py": ["tests/inference/fitting", "tests/inference/posterior", "tests/zoo/test_pair.py"],
    "zoo/mixtures": ["tests/zoo/mixtures"],
    "zoo/parts": ["tests/zoo/parts", "tests/zoo/autoencoders", "tests/zoo/sequences"],
    "zoo/parts/chains": [*_CHAINS, _STATES],
    "zoo/parts/conjugate": [
        _PARTS("linear"),
        _PARTS("inverse_gamma"),
        "tests/zoo/graphs",
        "tests/zoo/mixtures",
        "tests/zoo/regression",
        "tests/zoo/sequences",
    ],
    "zoo/parts/covariates.py": ["tests/zoo/regression"],
    "zoo/parts/em": [_PARTS("em"), "tests/zoo/mixtures", _PARTS("baum_welch")],
    "zoo/parts/missing.py": [_PARTS("columns"), "tests/zoo/mixtures", "tests/zoo/sequences"],
    "zoo/parts/networks": [_PARTS("networks"), _PARTS("bif"), "tests/zoo/graphs", _QUERIES],
    "zoo/parts/polynomials.py": ["tests/zoo/regression"],
    "zoo/parts/recurrent": ["tests/zoo/sequences"],
    "zoo/parts/sequence.py": [_PARTS("series"), "tests/zoo/sequences"],
    "zoo/parts/series.py": [_PARTS("series"), "tests/zoo/sequences"],
    "zoo/parts/tables": [_PARTS("columns"), "tests/zoo/mixtures", "tests/zoo/autoencoders/test_naive_bayes_vae.py"],
    "zoo/parts/trees": [_PARTS("soft_trees"), *_TREES, _IMPORTANCE],
    "zoo/regression": ["tests/zoo/regression", _IMPORTANCE],
    "zoo/sequences": ["tests/zoo/sequences", _STATES],
}
# Files of tests that are not called after what they test.
OWN = {
    "inference/fitting/step.py": "test_fit.py", "inference/fitting/loop.py": "test_fit.py",
    "inference/posterior/draws.py": "test_check.py", "inference/posterior/psis.py": "test_khat.py",
    "inference/codes/reading.py": "test_encoding.py", "zoo/parts/tables/rows.py": "test_columns.py",
    "zoo/parts/trees/leaves.py": "test_decision_tree.py", "zoo/parts/em/gaussian.py": "test_em.py",
}  # fmt: skip


def core(names: Sequence[str] = ()) -> list[str]:
    """Files of the numeric core, or those of them that were named (a file or a folder), by path from the root."""
    found = []
    for name in names or [key for key in COVER if key.count("/") == 1]:
        path = ROOT / name
        if not path.exists():
            raise ValueError(f"{name}: there is no such file or folder")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.resolve()]
        found += [file.relative_to(ROOT).as_posix() for file in files if file.name != "__init__.py"]
    for name in found:
        covering(name)
    return list(dict.fromkeys(found))


def covering(path: str) -> list[str]:
    """Test files for a source file: that of its own name first, then what covers its folder.

    Raises:
        ValueError: the file is outside the numeric core.
    """
    known = [key for key in COVER if path == key or path.startswith(f"{key}/")]
    if not known:
        raise ValueError(f"{path}: no tests are known for it; the core is {', '.join(COVER)}")
    files: list[str] = []
    for name in COVER[max(known, key=len)]:
        home = ROOT / name
        files += [name] if home.is_file() else [p.relative_to(ROOT).as_posix() for p in sorted(home.glob("test_*.py"))]
    own = OWN.get(path, f"test_{Path(path).stem}.py")
    stem = own.removesuffix(".py")
    return sorted(dict.fromkeys(files), key=lambda name: (Path(name).name != own, stem not in name))
