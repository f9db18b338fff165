"""Uploads that are being received: so many at once of everybody, and so many of one user."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from memepool_content.domain.errors import QueueFullError, UserQueueFullError
from memepool_content.settings import UploadSettings


class Streams:
    """Counts them, in this process."""

    def __init__(self, limits: UploadSettings) -> None:
        self._limits = limits
        self._of: Counter[UUID] = Counter()

    @contextlib.contextmanager
    def one_of(self, user_id: UUID) -> Iterator[None]:
        """One more, while the block runs.

        Raises:
            QueueFullError, UserQueueFullError
        """
        if self._of.total() >= self._limits.concurrent_max:
            raise QueueFullError("Too many uploads are being received; try again soon.")
        if self._of[user_id] >= self._limits.queued_per_user_max:
            raise UserQueueFullError("Too many of your uploads are being received; wait for them.")
        self._of[user_id] += 1
        try:
            yield
        finally:
            self._of[user_id] -= 1
            self._of += Counter()  # forgets who has none
