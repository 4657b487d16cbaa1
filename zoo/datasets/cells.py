"""Cells and column names of text files, and the errors of their readers in words."""

from __future__ import annotations

from collections import Counter

from zoo.datasets.decimals import Decimal, plain_number

MISSING = frozenset({"", "na", "nan", "n/a", "#n/a", "<na>", "null", "none", "?"})  # in small letters
MARKS = frozenset({"-", "--", "---", "–", "—", "."})  # taken for missing among numbers, aloud
_POINT = Decimal(".", grouped=False)


def distinct(columns: tuple[str, ...]) -> None:
    """Refuse two columns of one name."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise ValueError(f"two columns called '{repeated[0]}'")


def number(cell: str, decimal: Decimal = _POINT) -> float | None:
    """The number in a cell, NaN when missing, None when it is something else."""
    text = plain_number(cell, decimal) if decimal.mark == "," else cell
    if text is None:
        return None
    try:
        return float(text) if "_" not in text else None  # float() reads '1_000' as a thousand
    except ValueError:
        return float("nan") if cell.strip().lower() in MISSING else None


def told(error: Exception) -> str:
    """An error of a reader in words; of a text that is none, where its bytes stop making sense."""
    if isinstance(error, UnicodeDecodeError):
        return f"not a text in UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    return str(error) or type(error).__name__
