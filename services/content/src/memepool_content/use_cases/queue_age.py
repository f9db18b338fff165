"""How long uploads wait to be processed: what an operator is alerted on."""

from prometheus_client import Gauge

from memepool_common.db import Database
from memepool_content.store import jobs

OLDEST = Gauge(
    "memepool_processing_oldest_seconds", "Age of the oldest unfinished job of a stage", ["stage"]
)


async def measure(database: Database) -> None:
    """Set the gauges, to 0 where nothing waits."""
    async with database.read() as session:
        found = await jobs.oldest_s(session)
    for stage, age_s in found.items():
        OLDEST.labels(stage).set(age_s)
