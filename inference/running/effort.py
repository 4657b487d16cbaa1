"""Work that memory bears but no lifetime does is refused by the name of the option before it is begun."""

from __future__ import annotations

from inference.running.checked import Checked

MOST = 10**14  # numbers: eleven days, at a hundred million a second
_LARGE = 10**9  # runs, below which nothing is measured


def check_effort(given: Checked, option: str, value: int, times: int = 1) -> None:
    """Refuse so many draws of each row where they would take weeks.

    Args:
        given: the rows.
        option: what was asked for, as it is called.
        value: how many, of each row.
        times: how many times over.

    Raises:
        ValueError: naming the option.
    """
    runs = int(value) * times * given.size
    if runs > _LARGE and (numbers := runs * given.width) > MOST:
        raise ValueError(
            f"{option}: {int(value):,} would work out {numbers:.1g} numbers: {numbers / 864e10:,.3g} days at a hundred "
            "million a second"
        )
