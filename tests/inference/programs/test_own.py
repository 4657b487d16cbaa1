"""Conformance of a user's own programs: it passes what is sound, and sees a planted fault."""

import re
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

PROGRAMS = '''
import pyro
import pyro.distributions as dist
import torch

class Wrong(dist.HalfNormal):
    """Draws what its own support lacks."""

    def rsample(self, sample_shape=()):
        return -super().rsample(sample_shape)

def sound(y, kind=dist.HalfNormal, noise=False):
    scale = pyro.sample("scale", kind(torch.tensor(1.0)))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(torch.randn(()) if noise else 0.0, scale), obs=y)

Y = torch.tensor([0.3, -1.0, 0.5])
PROGRAMS = {
    "sound": (sound, (Y,)),
    "outside": (sound, (Y,), {"kind": Wrong}),
    "random": (sound, (Y,), {"noise": True}),
}
'''


@pytest.mark.slow
def test_a_sound_program_passes_and_a_fault_is_seen(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(PROGRAMS)
    command = [sys.executable, "-m", "pytest", "tests/conformance_programs.py", "--program-module", str(path)]
    command += ["-q", "-rA", "-p", "no:cacheprovider", "-k", "sound or prior_draws or predictions"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    lines = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\S+)", done.stdout, re.MULTILINE)
    found = {test: outcome for outcome, test in lines}
    sound = {outcome for test, outcome in found.items() if "[sound]" in test}
    assert sound == {"PASSED"}, done.stdout[-3000:]
    assert found["test_prior_draws_lie_in_the_support[outside]"] == "FAILED"
    assert found["test_predictions_have_the_shapes_of_the_sites[random]"] == "FAILED"
