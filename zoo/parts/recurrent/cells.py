"""Recurrent networks over whole sequences and one step at a time, and where a sequence of a given length ends.

GRU (Cho et al. 2014)                                  LSTM (Hochreiter & Schmidhuber 1997)
r, u = sigmoid(W [i_t, h_{t-1}])                        i, f, o = sigmoid(W [i_t, h_{t-1}])
h_t = u h_{t-1} + (1 - u) tanh(W i_t + r (U h_{t-1}))   c_t = f c_{t-1} + i tanh(W [i_t, h_{t-1}]),  h_t = o tanh(c_t)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Cell = Literal["gru", "lstm"]
State = tuple[Tensor, ...]


class Recurrence(nn.Module):
    """A recurrent network (R, T, I) -> (R, T, H). States are (layers, R, H): h, and c of an LSTM.

    Args:
        cell: `gru` or `lstm`.
        inputs: size of an input I.
        hidden: size of the hidden state H.
        layers: networks on top of each other.
    """

    def __init__(self, cell: Cell, inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.cell, self.inputs, self.hidden, self.layers = cell, inputs, hidden, layers
        self.net = (nn.GRU if cell == "gru" else nn.LSTM)(inputs, hidden, layers, batch_first=True)
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                if name.startswith("weight_hh"):  # keeps the length of what it carries, gate by gate (Saxe et al. 2014)
                    for gate in value.split(hidden):
                        nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    nn.init.normal_(value, std=value.shape[1] ** -0.5)
                else:
                    nn.init.zeros_(value)
                    if cell == "lstm" and name.startswith("bias_ih"):
                        value[hidden : 2 * hidden] = 1.0  # remembers, to begin with (Jozefowicz et al. 2015)

    def start(self, rows: int) -> State:
        """The state before the first step: zeros."""
        weight: Tensor = next(self.net.parameters())
        zeros = weight.new_zeros(self.layers, rows, self.hidden)
        return (zeros,) if self.cell == "gru" else (zeros, zeros)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hidden states of the top layer at each step, (R, T, H), and the state after the last."""
        state = self.start(len(inputs)) if state is None else state
        # By name: a flat list kept inside `nn.GRU` would not see parameters that `functional_call` swaps.
        weights = [getattr(self.net, name) for name in self.net._flat_weights_names]
        rest = (weights, True, self.layers, 0.0, False, False, True)
        if self.cell == "gru":
            top, last = torch.gru(inputs, state[0], *rest)
            return top, (last,)
        top, h, c = torch.lstm(inputs, list(state), *rest)
        return top, (h, c)


def over(lengths: Tensor | None, steps: int, like: Tensor) -> Tensor:
    """Whether each step lies past the end of its sequence, (*lengths.shape, T)."""
    if lengths is None:
        return torch.zeros(steps, dtype=torch.bool, device=like.device)
    return torch.arange(steps, device=like.device) >= lengths.unsqueeze(-1)
