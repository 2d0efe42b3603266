"""Telling who asked for it that a job is finished: Standard Webhooks, signed, and repeated until it is taken."""

import json
import logging
import random
import time
from datetime import UTC, datetime

from standardwebhooks import Webhook

from app.errors import EnlargerError
from app.jobs.egress import Egress
from app.jobs.records import Job, timestamp

log = logging.getLogger("enlarger.jobs")

DELAYS = (5, 30, 120, 600, 1800, 7200, 18000, 36000, 36000)
"""Seconds from one attempt to the next, about as the specification proposes; after the last it is given up."""
GONE = 410


class Webhooks:
    """``secret``: ``whsec_`` and the key in base64."""

    def __init__(self, secret: str, egress: Egress, retention: float) -> None:
        self._webhook, self._egress, self._retention = Webhook(secret), egress, retention

    def deliver(self, job: Job, attempt: int) -> float | None:
        """Sends it; the seconds after which to try again, None where it was taken, refused for good or given up."""
        assert job.spec.webhook
        assert job.done
        body = json.dumps(self.message(job))
        now = datetime.now(UTC)
        headers = {
            "webhook-id": f"msg_{job.id}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(f"msg_{job.id}", now, body),
        }
        try:
            status = self._egress.post(job.spec.webhook, body.encode(), headers)
        except EnlargerError as error:
            log.info("webhook of %s: %s", job.id, error.code)
            status = 0
        if status // 100 == 2 or status == GONE:
            return None
        return DELAYS[attempt - 1] * random.uniform(0.8, 1.2) if attempt <= len(DELAYS) else None

    def message(self, job: Job) -> dict[str, object]:
        return {
            "type": f"job.{job.status}",
            "timestamp": timestamp(job.finished or time.time()),
            "data": job.document(self._retention),
        }
