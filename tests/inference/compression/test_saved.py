"""Files that earlier versions wrote, one for each codec, read as they did then: none is ever made anew."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

import inference
import zoo
from inference.compression.container import Container
from inference.compression.opening import MODELS
from tests.helpers.places import ROOT

SAVED = ROOT / "tests" / "saved_compressed"
CONTENT = json.loads((SAVED / "content.json").read_text())


def raw(found):
    """All bytes of what was compressed."""
    if isinstance(found, zoo.Batch):
        return b"".join(field.numpy().tobytes() for field in found.fields().values())
    return found if isinstance(found, bytes) else np.asarray(found).tobytes()


@pytest.mark.parametrize("name", CONTENT)
def test_a_saved_file_reads_as_it_did(name):
    assert zlib.crc32(raw(inference.decompress(SAVED / f"{name}.zoo"))) == CONTENT[name]


def test_the_table_is_the_text_that_it_was():
    assert inference.decompress(SAVED / "table.zoo") == (SAVED / "table.csv").read_bytes()


def test_every_codec_has_a_file():
    kinds = {part["kind"] for name in CONTENT for part in Container(SAVED / f"{name}.zoo").header["parts"]}
    assert kinds == set(MODELS)
