"""The picture of a network shows every node and what is believed, without overlap."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

import inference
import zoo
from inference.drawing import layers
from inference.gallery import network
from tests.helpers.networks import made


def test_the_picture_shows_every_node_and_what_is_believed(asia):
    figure = network.network(asia, None, {"dysp": "yes"}, do={"lung": "no"})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert set(asia.schema.names) < set(texts)
    assert {"= yes", "set to no", "86.1%"} < set(texts)
    pair = made()
    posterior = inference.prior(pair, 2, draws=20)
    texts = [text.get_text() for text in network.network(pair, posterior).axes[0].texts]
    assert sum("±" in text for text in texts) == 4
    texts = [text.get_text() for text in network.network(asia, given={"dysp": "yes"}).axes[0].texts]
    assert {"= yes", "83.4%"} < set(texts)
    with pytest.raises(ValueError, match=r"a picture shows one case, got 2 rows; give one of them, frame.iloc\[0\]"):
        network.network(asia, None, pd.DataFrame({"dysp": ["yes", "no"]}))
    with pytest.raises(ValueError, match="gmm is no network that can be drawn"):
        network.network(zoo.create("gmm"))


def test_the_layout_goes_down_without_overlap_and_crosses_little():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (4, 3), (5, 6), (6, 3), (7, 2)]
    places, routes = layers.laid_out(8, edges, [1.0] * 8)
    for route in routes:
        assert [places[i].layer for i in route] == list(range(places[route[0]].layer, places[route[-1]].layer + 1))
    found = {}
    for place in places:
        found.setdefault(place.layer, []).append(place)
    for line in found.values():
        line.sort(key=lambda place: place.x)
        assert all(b.x - a.x >= (a.width + b.width) / 2 for a, b in itertools.pairwise(line))
    rows = [sorted((i for i, p in enumerate(places) if p.layer == layer), key=lambda i: places[i].x) for layer in found]
    assert layers._crossings(rows, places) == 0
