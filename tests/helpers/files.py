"""IDX files, byte by byte."""

from __future__ import annotations

import struct

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(values: np.ndarray) -> bytes:
    """The IDX file of an array, by the published layout."""
    head = struct.pack(">BBBB", 0, 0, CODES[values.dtype.str[1:]], values.ndim)
    return (
        head + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(values.dtype.newbyteorder(">")).tobytes()
    )
