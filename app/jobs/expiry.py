"""What is over is removed: finished jobs with their pictures after their time, and what a broken request left."""

import time

from app.jobs.book import Book
from app.jobs.lifecycle import source_key
from app.jobs.records import created_at
from app.jobs.store import Store

COUNT = 500  # jobs at a time
ORPHAN_SECONDS = 3600.0  # after which an upload without a job is nobody's


def expire(book: Book, store: Store, retention: float) -> int:
    """Removes pictures first and rows then, so that nothing is left that no row tells of; how many jobs."""
    jobs = book.finished_before(time.time() - retention, COUNT)
    for job in jobs:
        store.delete_below(f"results/{job.id}/")
        store.delete(source_key(job.id))
    if jobs:
        book.delete([job.id for job in jobs])
    book.delete_webhooks_before(time.time() - retention, COUNT)
    book.tables.forget_old(retention)
    return len(jobs)


def remove_orphans(book: Book, store: Store) -> int:
    """Uploads whose request broke off before its job was accepted; how many."""
    before = time.time() - ORPHAN_SECONDS
    old: list[str] = []
    for stored in store.list("sources/"):
        made = created_at(stored.key.rpartition("/")[2])
        if made is not None and made < before:
            old.append(stored.key.rpartition("/")[2])
    removed = 0
    for at in range(0, len(old), COUNT):
        some = old[at : at + COUNT]
        known = {job.id for job in book.find(*some)}
        orphans = [source_key(job_id) for job_id in some if job_id not in known]
        store.delete(*orphans)
        removed += len(orphans)
    return removed
