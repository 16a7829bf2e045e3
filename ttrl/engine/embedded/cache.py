"""The key-value cache of a batch: room to grow into, rows that leave, rows that join."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions added at a time: the library's own layer copies everything for every token."""

SERVED_LAYERS = frozenset({"full_attention", "sliding_attention"})


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of shape (rows, heads, positions, width), views of larger buffers."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return self.hold(key_states, value_states)
        keys, values = self.held()
        old, new = keys.shape[2], keys.shape[2] + key_states.shape[2]
        if new > self._key_buffer.shape[2]:
            self.hold(keys, values, room=new - old + ROOM)
        self._key_buffer[:, :, old:new] = key_states
        self._value_buffer[:, :, old:new] = value_states
        self.keys, self.values = self._key_buffer[:, :, :new], self._value_buffer[:, :, :new]
        return self.keys, self.values

    def hold(self, keys: Tensor, values: Tensor, *, room: int = ROOM) -> tuple[Tensor, Tensor]:
        """Copy these and leave room behind them."""
        self._key_buffer, self.keys = _roomy(keys, room)
        self._value_buffer, self.values = _roomy(values, room)
        return self.keys, self.values

    def held(self) -> tuple[Tensor, Tensor]:
        """What there is so far."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def select(self, rows: Tensor, start: int) -> None:
        keys, values = (tensor[:, :, start:].index_select(0, rows) for tensor in self.held())
        self.hold(keys, values)

    def join(self, other: GrowingLayer) -> None:
        keys, values = map(_stack, self.held(), other.held())
        self.hold(keys, values)


class Cache(DynamicCache):
    """The layers of one batch. Masks of sliding windows work on whole layers too."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config=config)
        self._growing = [GrowingLayer() for _ in self.layers]  # type: ignore[no-untyped-call]
        self.layers = list(self._growing)

    def select(self, rows: Tensor, start: int = 0) -> None:
        """Keep these rows (in this order, repeated if named twice) from position `start` on."""
        for layer in self._growing:
            layer.select(rows, start)

    def join(self, other: Cache) -> None:
        """Append the other's rows; both end at the same position, the shorter gets padding left."""
        for layer, newer in zip(self._growing, other._growing, strict=True):
            layer.join(newer)


def _roomy(tensor: Tensor, room: int) -> tuple[Tensor, Tensor]:
    rows, heads, length, width = tensor.shape
    buffer = tensor.new_empty(rows, heads, length + room, width)
    view = buffer[:, :, :length]
    view.copy_(tensor)
    return buffer, view


def _stack(one: Tensor, other: Tensor) -> Tensor:
    length = max(one.shape[2], other.shape[2])
    # Zeros, not whatever lies in memory: a masked NaN would still spoil a sum.
    padded = [
        torch.nn.functional.pad(tensor, (0, 0, length - tensor.shape[2], 0))
        for tensor in (one, other)
    ]
    return torch.cat(padded)
