"""The decoder's memory: the states of a question's passages, each encoded alone, side by side without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from ragkit.reader.prompts import ALONE, EncoderInput
from ragkit.reader.reading import length_batches

_CPU_GROUP = 16  # inputs at once on a CPU: more are slower there


@dataclass(frozen=True, slots=True)
class Memory:
    """What the decoder attends to: real tokens of each question's passages, one passage after the other.

    ``passage`` is the number of the passage that a token belongs to, in the order given; -1 at padding and at the
    tokens of a question that is read without passages. Padding stands only at the end of a line.
    """

    states: Float[Tensor, "query token dim"]
    mask: Bool[Tensor, "query token"]
    passage: Int64[Tensor, "query token"]

    @property
    def n_passages(self) -> Int64[Tensor, " query"]:
        """Passages of each question."""
        return self.passage.amax(dim=-1) + 1

    def joint(self) -> Bool[Tensor, "query token"]:
        """The tokens that answering uses: of all passages; of the question alone where there is no passage."""
        return self.mask & ((self.passage != ALONE) | (self.n_passages == 0)[:, None])

    def jointly(self) -> Memory:
        """The memory with only the tokens that answering uses."""
        keep = self.joint()
        if torch.equal(keep, self.mask):
            return self
        return self.take(torch.arange(len(keep), device=keep.device), keep=keep)

    def take(self, queries: Int64[Tensor, " set"], *, keep: Bool[Tensor, "set token"]) -> Memory:
        """A memory with one line a set: the tokens that ``keep`` names of the question it is taken from."""
        n = keep.sum(dim=-1)
        width = max(int(n.max()), 1)
        order = keep.long().argsort(dim=-1, descending=True, stable=True)[:, :width]  # [set, token]
        mask = torch.arange(width, device=n.device) < n[:, None]
        lines = queries[:, None]
        return Memory(self.states[lines, order], mask, self.passage[lines, order].masked_fill(~mask, ALONE))

    def batches(self, *, budget: int) -> Iterator[tuple[Int64[Tensor, " query"], Memory]]:
        """Some questions after the other, like lengths together, each batch within the budget of tokens."""
        for rows in length_batches(self.mask.sum(dim=-1).tolist(), budget=budget):
            at = torch.tensor(rows, device=self.mask.device)
            yield at, self.take(at, keep=self.mask[at])

    def detached(self) -> Memory:
        """The same numbers, of which no gradient goes back to the encoder."""
        return Memory(self.states.detach(), self.mask, self.passage)

    def numbered(self, numbers: Sequence[Sequence[int]]) -> Memory:
        """The memory with other numbers for its passages: what is number ``n`` becomes ``numbers[query][n]``."""
        table = torch.full((len(numbers), max(1, *map(len, numbers))), ALONE)
        for query, line in enumerate(numbers):
            table[query, : len(line)] = torch.tensor(line, dtype=torch.int64)
        passage = table.to(self.passage.device).gather(1, self.passage.clamp(min=0))
        return Memory(self.states, self.mask, passage.masked_fill(self.passage == ALONE, ALONE))

    def beside(self, other: Memory) -> Memory:
        """The tokens of both for each question, whose passages must differ in number.

        A question that is read alone is this memory's; the other's is left out.
        """
        pairs = ((self.states, other.states), (self.mask, other.mask), (self.passage, other.passage))
        whole = Memory(*(torch.cat(pair, dim=1) for pair in pairs))
        keep = torch.cat([self.mask, other.mask & (other.passage != ALONE)], dim=1)
        return whole.take(torch.arange(len(keep), device=keep.device), keep=keep)


def encode_inputs(
    model: PreTrainedModel,
    inputs: Sequence[Sequence[EncoderInput]],
    *,
    budget: int,
    pad_id: int,
    add_words: bool = False,
) -> Memory:
    """Every question's memory; inputs of like length of all questions go through the encoder together.

    A group has at most ``budget`` tokens, padding included, and one input at least. ``add_words`` adds the encoder's
    word vectors of the tokens to their states. With gradient where it is enabled.
    """
    encoder: Any = model.get_encoder()
    device = encoder.get_input_embeddings().weight.device
    rows, begins, owners = _layout(inputs)  # owners: [query, token]
    n_queries, width = owners.shape
    states: list[Tensor] = []
    places: list[Int64[np.ndarray, " token"]] = []
    for group in _groups([len(row.ids) for row in rows], budget=budget, is_cpu=device.type == "cpu"):
        ids, mask = (part.to(device) for part in _pad([rows[row].ids for row in group], pad_id=pad_id))
        found = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # [row, token, dim]
        if add_words:
            found = found + encoder.get_input_embeddings()(ids)
        states.append(found[mask])
        places.extend(np.arange(begins[row], begins[row] + len(rows[row].ids)) for row in group)
    flat = torch.cat(states)
    empty = flat.new_zeros(n_queries * width, flat.shape[-1])
    memory = empty.index_copy(0, torch.from_numpy(np.concatenate(places)).to(device), flat)
    passage = torch.from_numpy(owners)
    is_there = passage > _NOTHING
    return Memory(
        memory.view(n_queries, width, -1), is_there.to(device), passage.masked_fill(~is_there, ALONE).to(device)
    )


_NOTHING = -2  # marks padding while a memory is laid out


def _layout(
    inputs: Sequence[Sequence[EncoderInput]],
) -> tuple[list[EncoderInput], list[int], Int64[np.ndarray, "query token"]]:
    """All inputs in one list, the place of each one's first token in the flattened memory, the owner of each place."""
    width = max(sum(len(one.ids) for one in line) for line in inputs)
    owners = np.full((len(inputs), width), _NOTHING, dtype=np.int64)
    rows, begins = [], []
    for query, line in enumerate(inputs):
        at = 0
        for one in line:
            rows.append(one)
            begins.append(query * width + at)
            owners[query, at : at + len(one.ids)] = one.passage
            at += len(one.ids)
    return rows, begins, owners


def _groups(lengths: Sequence[int], *, budget: int, is_cpu: bool) -> Iterator[list[int]]:
    for group in length_batches(lengths, budget=budget):
        step = _CPU_GROUP if is_cpu else len(group)
        yield from (group[begin : begin + step] for begin in range(0, len(group), step))


def _pad(ids: Sequence[Sequence[int]], *, pad_id: int) -> tuple[Int64[Tensor, "row token"], Bool[Tensor, "row token"]]:
    width = max(len(row) for row in ids)
    padded = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.bool_)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = True
    return torch.from_numpy(padded), torch.from_numpy(mask)
