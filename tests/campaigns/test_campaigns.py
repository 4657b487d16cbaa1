"""The campaigns: a slice in every run of the tests, the whole of them with `make test-slow`. None may find anything."""

from __future__ import annotations

import pytest

from tests.campaigns import broken_off, faults, kills

QUICK = ("gradient NaN in 44 of 49 steps", "gradient NaN in all of 5", "callback raises")


def wrong(cells):
    return [cell for cell in cells if cell.wrong]


def test_a_slice_of_the_kills():
    cells = kills.campaign(every=4, cases=("pair.save",))
    assert len(cells) > 4
    assert not wrong(cells), kills.told(cells)


@pytest.mark.parametrize("fault", QUICK)
def test_a_slice_of_the_faults(fault):
    cells = faults.campaign([fault], ["off"])
    assert not wrong(cells), faults.told(cells)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_kill():
    cells = kills.campaign()
    assert len(cells) > 100
    assert not wrong(cells), kills.told(cells)


@pytest.mark.slow
def test_every_fault():
    cells = faults.campaign()
    assert len(cells) == 24
    assert not wrong(cells), faults.told(cells)


@pytest.mark.slow
def test_fits_that_were_killed_go_on_bit_for_bit():
    cells = broken_off.cells(broken_off.FITS, 10)
    assert sum(cell.kills for cell in cells) > 5
    assert not wrong(cells), broken_off.told(cells)


@pytest.mark.slow
def test_chains_that_were_killed_go_on_bit_for_bit():
    with broken_off.often():
        cells = broken_off.cells(broken_off.SAMPLES, 5)
    assert sum(cell.kills for cell in cells) > 2
    assert not wrong(cells), broken_off.told(cells)


@pytest.mark.slow
def test_a_planted_forgetting_is_seen(monkeypatch):
    monkeypatch.setattr(broken_off.randomness, "restore", lambda kept: None)
    cells = broken_off.cells({"codes": broken_off.FITS["codes, held out"]}, 4, seed=1)
    assert any("other bits" in cell.wrong for cell in cells), broken_off.told(cells)


def test_a_planted_loss_is_seen(monkeypatch):
    # A save that removes what is there before it writes: a kill between the two leaves nothing.
    def careless(folder):
        for path in folder.iterdir():
            path.unlink()
        kills.saved(folder)

    monkeypatch.setitem(kills.CASES, "pair.save", careless)
    cells = kills.campaign(every=4, cases=("pair.save",))
    assert any("nothing loads" in cell.wrong for cell in cells)
    assert "wrong" in kills.told(cells)
