"""Property 10: FiD does not see the order of passages or their repetition, and leaving one out is masking it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragkit.reader import FusionOptions, FusionReader
from ragkit.reader.fusion import Memory
from ragkit.types import Passage

from ..reader.tiny_models import PASSAGES, save_model  # noqa: TID252  the tests are no installed package

WORDS = st.lists(st.sampled_from(["hamlet", "Rome", "was", "1603", "by", "Röntgen", "old,"]), max_size=9).map(" ".join)
LISTS = st.lists(st.builds(Passage, st.just("1"), WORDS, WORDS), min_size=2, max_size=4)
QUESTION, ANSWER = "who wrote hamlet", "william shakespeare"
few = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EXACT = {"atol": 1e-5, "rtol": 1e-5}  # of log-probabilities of about -30, in float32


@pytest.fixture(scope="module", params=["t5", "bart", "bert_wide"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FusionReader:
    """One of each family; the last is an EncoderDecoderModel that projects its encoder's states."""
    folder = save_model(request.param, tmp_path_factory.mktemp(request.param))
    options = FusionOptions(max_length=48, max_question=16)
    return FusionReader.from_pretrained(str(folder), options=options, device="cpu", dtype="float32")


def joint(reader: FusionReader, *lists: list[Passage]) -> torch.Tensor:
    n = len(lists)
    return reader.log_likelihood([QUESTION] * n, lists, [ANSWER] * n).sums[:, 0]


@few
@given(passages=LISTS, data=st.data())
def test_the_order_of_the_passages_does_not_matter(reader: FusionReader, passages: list[Passage], data: st.DataObject):
    there, back = joint(reader, passages, data.draw(st.permutations(passages)))
    torch.testing.assert_close(there, back, **EXACT)


@few
@given(passages=LISTS)
def test_listing_every_passage_twice_does_not_matter(reader: FusionReader, passages: list[Passage]):
    """Attention over twice as many equal states has the same mean."""
    once, twice = joint(reader, passages, passages + passages)
    torch.testing.assert_close(once, twice, **EXACT)


@few
@given(passages=LISTS)
def test_leaving_a_cached_passage_out_is_never_having_had_it(reader: FusionReader, passages: list[Passage]):
    without = reader.log_likelihood([QUESTION], [passages], [ANSWER], given="leave_one_out").sums[0]
    again = joint(reader, *(passages[:row] + passages[row + 1 :] for row in range(len(passages))))
    torch.testing.assert_close(without, again, **EXACT)
    alone = reader.log_likelihood([QUESTION], [passages], [ANSWER], given="alone").sums[0]
    torch.testing.assert_close(alone, joint(reader, *([passage] for passage in passages)), **EXACT)


def test_dropping_replacing_and_mismasking_a_passage_do_move_it(reader: FusionReader):
    """The controls: a decoder that reads no passage would pass the tests above."""
    other = Passage("9", "old paris score was 23 in france", "1603")
    whole, dropped, replaced = joint(reader, PASSAGES, PASSAGES[:3], [*PASSAGES[:3], other])
    with torch.no_grad():
        memory = reader.encode([QUESTION], [PASSAGES])
    wider = torch.nn.functional.pad(memory.states, (0, 0, 0, 12))
    owner = torch.nn.functional.pad(memory.passage, (0, 12), value=3)
    mismasked = reader.score(Memory(wider, owner >= 0, owner), [ANSWER]).sums[0, 0]
    for moved in (dropped, replaced, mismasked):
        assert abs(float(moved - whole)) > 1e-2
    masked = reader.score(Memory(wider, torch.nn.functional.pad(memory.mask, (0, 12)), owner), [ANSWER]).sums[0, 0]
    torch.testing.assert_close(masked, whole, **EXACT)


def test_no_word_of_one_passage_changes_the_states_of_another(reader: FusionReader):
    with torch.no_grad():
        one = reader.encode([QUESTION], [PASSAGES[:2]])
        two = reader.encode([QUESTION], [[PASSAGES[0], Passage("2", "another text")]])
        own = [memory.states[0, memory.passage[0] == 0] for memory in (one, two)]
    torch.testing.assert_close(own[0], own[1], atol=1e-4, rtol=1e-4)
    assert one.states.shape != two.states.shape
