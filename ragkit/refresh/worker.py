"""The process that makes generations: ``python -m ragkit.refresh.worker PARENT NICE``, a request a line on its input.

It ends when its input does, when its parent dies, and never leaves the live generation other than it was.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence

import torch

from ragkit.corpus import PassageStore
from ragkit.errors import IndexMismatch, RagkitError
from ragkit.refresh.background import Request
from ragkit.refresh.generation import SNAPSHOT, NextGeneration
from ragkit.refresh.make import Made, make_generation
from ragkit.retriever import DualEncoder
from ragkit.retriever.open import CORPUS

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(words: Sequence[str]) -> int:
    """Answer requests until the input ends."""
    parent, nice = map(int, words)
    _die_with(parent)
    os.nice(nice)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not read as an answer
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        request = Request.from_json(requests.get())
        try:
            answer = make(request).to_json()
        except RagkitError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


def make(request: Request) -> Made:
    """The generation of a request, made with the encoder that lies in its folder.

    Raises:
        IndexMismatch: that is not the encoder of the request.
        RagkitError: whatever :func:`~ragkit.refresh.make.make_generation` raises.
    """
    job = request.job
    store = PassageStore.open(job.index_dir / CORPUS)
    folder = NextGeneration.place(job.index_dir)
    encoder = DualEncoder.from_pretrained(str(folder / SNAPSHOT), device=request.device, dtype=request.dtype)
    generation = NextGeneration(job, encoder, store)
    if generation.digest != request.digest:
        raise IndexMismatch(
            f"{folder / SNAPSHOT} holds encoder {generation.digest[:12]}, the refresh began with "
            f"{request.digest[:12]}: another process has written to {job.index_dir}; give the run an index of its own"
        )
    log.info("update %d: making %s", job.update, folder.name)
    return make_generation(generation, request.sample, rank=request.rank, world=request.world)


def _die_with(parent: int) -> None:
    """Die when the parent does: by the kernel where there is that (Linux), and by the end of the input everywhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _listen(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the parent is gone or wants no more; the thread at work cannot be asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
