"""Where transitions diverge: the number and the side that were made so."""

import torch

from inference.sampling.corners import corner


def test_the_number_that_is_low_or_high_where_transitions_diverge_is_named():
    generator = torch.Generator().manual_seed(0)
    draws = {"mu": torch.randn(4, 500, generator=generator), "z": torch.randn(4, 500, 2, 3, generator=generator)}
    draws["still"] = torch.zeros(4, 500)
    low = draws["z"][..., 1, 2] < -1.5
    told = corner(draws, low)
    assert "where 'z[1, 2]' is low" in told
    middle = draws["z"][..., 1, 2][low].median()
    assert f"half of them below {float(middle):.3g}" in told
    assert "where 'mu' is high" in corner(draws, draws["mu"] > 1)
    assert corner(draws, torch.rand(4, 500, generator=generator) < 0.05) == ""  # anywhere
    few = torch.zeros(4, 500, dtype=torch.bool)
    few[0, :4] = True
    assert corner(draws, few) == ""
