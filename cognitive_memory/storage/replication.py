"""Brings a derived index up to date with its record, in the background and through outages."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from threading import Event, Lock, Thread
from time import monotonic

import numpy as np

from ..core.errors import CognitiveMemoryError, StorageError, StoreBusyError
from ..core.interfaces import MemoryStorage, ReplicaIndex, VectorStorage
from .database import Database
from .embeddings import Embedding
from .outbox import Backlog, Outbox
from .sqlite_errors import primary_code

BATCH = 256
"""Memories sent together."""

POLL_SECONDS = 1.0
"""How often the outbox is looked at for what other processes have written."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0
"""Between two attempts, doubled after each that failed."""

_log = logging.getLogger(__name__)


class Replication:
    """Applies the outbox of a store to ``replica``, one process at a time, in order.

    A change counts as applied when the replica has answered; until then it waits in the store,
    whatever becomes of this process. Applying it twice is harmless. ``database``, what is over it,
    and ``replica`` belong to this object: waiting for a writer holds up no search. ``target``
    names the replica among all that the store may have; ``clock`` gives seconds, ``jitter`` a
    number in [0, 1).
    """

    def __init__(
        self,
        database: Database,
        memories: MemoryStorage,
        record: VectorStorage,
        replica: ReplicaIndex,
        target: str,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.target = target
        self.fault: str | None = None
        """Why the replica cannot be used, ``None`` while it can."""
        self._database = database
        self._outbox = Outbox(database)
        self._memories = memories
        self._record = record
        self._replica = replica
        self._clock = clock
        self._jitter = jitter
        self._process = os.getpid()
        self._wake = Event()
        self._turn = Lock()
        self._state = Lock()
        self._thread: Thread | None = None
        self._deadline: float | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._bound: str | None = None

    def target_of(self, embedding: Embedding) -> str:
        """The target with the embedding: of another one, the replica has to learn all anew."""
        return f"{self.target} {embedding.fingerprint}"

    def wake(self) -> None:
        """Say that there is something to do, to a thread that begins with the first time."""
        if os.getpid() != self._process:
            return  # A fork has neither the thread nor the right to use what was opened before it.
        with self._state:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="replication", daemon=True)
                self._thread.start()
        self._wake.set()

    def attempt(self) -> bool:
        """Apply a batch, or see whether a replica that failed answers; whether more may wait.

        Nothing is asked of it in the pause after a failure, nor where nothing waits.
        """
        if self._clock() < self._retry_at:
            return False
        try:
            if self._database.read_only:
                is_more = False
            elif self.fault is None and not self._has_work(self._outbox.look(1)):
                return False
            else:
                with self._turn, self._process_lock() as has_turn:
                    if not has_turn:
                        return False
                    is_more = self._apply_batch()
            self._recover()
        except StoreBusyError:
            return False  # Others write to the record, which is no fault of the replica.
        except CognitiveMemoryError as error:
            with self._state:
                self._fail(error)
            self._share_fault()
            return False
        return is_more

    def drain(self, resent: Sequence[str] = ()) -> None:
        """Apply all that waits, now; ``resent`` memories are deleted from the replica and sent.

        Raises what the replica raises, and ``StoreBusyError`` when another process is at it.
        """
        with self._turn, self._process_lock() as has_turn:
            if not has_turn:
                raise StoreBusyError(
                    f"another process applies the changes of {self._database.path} to the derived "
                    "index; try again when it is done"
                )
            self._bound = None  # See what is there, whether or not something waits.
            serving = self._outbox.look(0).serving
            if resent and serving is not None:
                self._replica.bind_embedding(serving.fingerprint, serving.dimension)
                self._outbox.add(resent)  # First: they wait until they are there again.
                self._replica.delete_vectors(resent)
            while self._apply_batch():
                pass
            self._recover()

    def report_failure(self, error: CognitiveMemoryError) -> None:
        """Use the replica no more until an attempt in the background finds that it answers."""
        with self._state:
            if self.fault is None:  # Of many that fail at once, the first counts.
                self._fail(error)
        self.wake()

    def close(self, flush_seconds: float) -> None:
        """Apply what waits for at most ``flush_seconds``; the rest stays waiting in the store."""
        if os.getpid() != self._process:
            return
        self._deadline = self._clock() + flush_seconds
        self._wake.set()
        if self._thread is not None:
            self._thread.join(flush_seconds)
        if self._thread is None or not self._thread.is_alive():
            self._release()
        # A thread that still waits for the replica does that itself, or ends with its process.

    def _run(self) -> None:
        while self._deadline is None or self._clock() < self._deadline:
            if self.attempt():
                continue
            if self._deadline is not None:
                break
            pause = self._retry_at - self._clock()
            self._wake.wait(pause if pause > 0 else POLL_SECONDS)
            self._wake.clear()
        if self._deadline is not None:
            self._release()

    def _release(self) -> None:
        try:
            self._replica.close()
        finally:
            self._database.close()

    def _has_work(self, backlog: Backlog) -> bool:
        if backlog.serving is None:
            return False
        is_begun = backlog.target == self.target_of(backlog.serving)
        return not is_begun or not backlog.is_complete or bool(backlog.entries)

    def _apply_batch(self) -> bool:
        """Bring some memories in the replica to the state of the record; whether more may wait."""
        with self._database.snapshot():
            backlog = self._outbox.look(BATCH)
            ids = [entry.memory_id for entry in backlog.entries]
            memories = self._memories.get_memories(ids)
            vectors = self._record.get_vectors(ids)
        if backlog.serving is None:
            return False
        target = self.target_of(backlog.serving)
        is_bound = self._bound == target and self.fault is None
        if is_bound and not self._has_work(backlog):
            return False
        if backlog.target != target:
            self._outbox.begin(target)
            return True
        self._bound = None  # Unless it answers.
        if not is_bound and not self._bind(backlog.serving, is_filled=backlog.is_complete):
            self._outbox.begin(target)
            return True
        if ids:
            present = [memory for memory in memories if memory.id in vectors]
            self._replica.delete_vectors(sorted({*ids} - {memory.id for memory in present}))
            self._replica.store_vectors(present, [vectors[memory.id] for memory in present])
            self._outbox.remove(backlog.entries)
        is_more = bool(ids) or (not backlog.is_complete and self._complete(target))
        self._bound = target
        return is_more

    def _bind(self, serving: Embedding, *, is_filled: bool) -> bool:
        """Whether the replica still has what it was given, if it was."""
        self._replica.bind_embedding(serving.fingerprint, serving.dimension)
        return not is_filled or self._replica.is_active()

    def _complete(self, target: str) -> bool:
        """Take the replica into use, or let what it holds beside the record wait; whether it did.

        So what is in use never finds what the record does not have.
        """
        surplus = [
            each for ids in self._replica.iterate_ids() for each in self._outbox.unknown(ids)
        ]
        if surplus:
            self._outbox.add(surplus)
            return True
        self._replica.activate()
        self._outbox.complete(target)
        return False

    def _recover(self) -> None:
        """End an outage if a search is answered; raises ``StorageError`` as the replica does."""
        backlog = self._outbox.look(0)
        if self.fault is None or not backlog.is_complete:
            return
        if backlog.serving is not None:
            self._replica.check_embedding(backlog.serving.fingerprint)
            probe = np.eye(1, backlog.serving.dimension, dtype=np.float32)[0]
            self._replica.search_similar(probe, 1)
        with self._state:
            self.fault = None
            self._failures = 0
            self._retry_at = 0.0
        self._share_fault()
        _log.warning("the derived index can be used again")

    def _fail(self, error: CognitiveMemoryError) -> None:
        """Pause, longer each time; within ``_state``."""
        if self.fault is None:
            _log.warning("the derived index cannot be used: %s", error)
        self.fault = str(error)
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        # Half of it by chance, so that many processes do not come back all at once.
        self._retry_at = self._clock() + pause * (0.5 + 0.5 * self._jitter())

    def _share_fault(self) -> None:
        """For ``status`` in other processes; the record may be busy or full, which is no matter."""
        if self._database.read_only:
            return
        with suppress(StorageError):
            if self._outbox.fault() != self.fault:
                self._outbox.set_fault(self.fault)

    @contextmanager
    def _process_lock(self) -> Iterator[bool]:
        """Whether no other process applies changes now: of two, the slower could undo newer ones.

        A lock of SQLite's on a file of its own, which ends with its process, however that ends.
        """
        path = f"{self._database.path}-replication"
        with self._database.errors():
            connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        with closing(connection):
            has_turn = True
            with self._database.errors():
                try:
                    connection.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError as error:
                    if primary_code(error) != sqlite3.SQLITE_BUSY:
                        raise
                    has_turn = False
            yield has_turn
