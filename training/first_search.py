"""Whether the vectors that the first update searches are those of the encoder that is trained."""

from __future__ import annotations

from pathlib import Path

from ragkit.errors import IndexMismatch
from ragkit.index import Manifest, live_generation
from ragkit.refresh import live_passages, passage_digest
from ragkit.retriever import DualEncoder

from .refresh_policy import RefreshPolicy
from .refresh_schedule import RefreshSchedule


def check_first_search(index_dir: Path, encoder: DualEncoder, policy: RefreshPolicy, *, is_refreshed: bool) -> None:
    """Raise IndexMismatch for an index of another encoder, unless a refresh makes all of it anew before update 0.

    Only mode sync with scope all does: async searches the old vectors meanwhile, drift may keep them, hot keeps most.
    ``is_refreshed`` is False where the run never refreshes, whatever the policy says: where the retriever is frozen.
    """
    folder = live_generation(index_dir)
    manifest = Manifest.load(folder)
    if manifest.vectors is None:  # an index of words: the refresher says what it wants
        return
    if live_passages(folder, encoder) == passage_digest(encoder):
        return
    is_whole = policy.mode == "sync" and policy.scope == "all" and RefreshSchedule.parse(policy.schedule).due(0)
    if is_refreshed and is_whole:
        return
    made_by = manifest.encoder
    found = "an unknown encoder" if made_by is None else f"encoder {made_by.digest[:12]} ({made_by.reference})"
    raise IndexMismatch(
        f"the vectors in {index_dir} are those of {found}, the retriever of this run is {encoder.digest[:12]} "
        f"({encoder.reference}): its queries would find nothing that belongs to them. Build an index by it (ragkit "
        "index retriever=... out=OTHER_DIR), or train with refresh=sync and a schedule that begins at 0, which does"
    )
