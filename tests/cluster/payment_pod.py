"""A process of a cluster that stops (SIGSTOP) in the midst of its worker's own transaction.

python -m tests.cluster.payment_pod URL WHEN     WHEN: worked, or recorded (right before the commit)

Says "committed" if it is, and "ended" when it is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from perdure import Job, OwnTransaction, Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.cluster.members import owns
from tests.runtime.payments import Charge, Charged, Order, Ordered, charge, charging, own_of

QUICK = ClusterSettings(beat_s=0.1, lease_s=0.5, absent_s=0.4, poll_s=0.1)


def pod(url: str, own: OwnTransaction, worker: object = charge) -> Cluster:
    return Cluster(
        url,
        [Order, charging(worker)],  # type: ignore[arg-type]
        Settings(control_socket=False, shutdown_timeout_s=1.0),
        cluster=QUICK,
        resources={"session": own},
    )


def stop(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def say_committed(session: Session) -> None:
    print("committed", flush=True)


def say_ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # not one of a flush
        print("ended", flush=True)


async def run(url: str, when: str) -> None:
    async def charge_and_stop(command: Charge, job: Job, session: AsyncSession) -> Charged:
        result = await charge(command, job, session)
        await session.flush()
        event.listen(session.sync_session, "after_commit", say_committed)
        event.listen(session.sync_session, "after_transaction_end", say_ended)
        if when == "worked":
            stop()
        else:
            event.listen(session.sync_session, "before_commit", stop)
        return result

    async with pod(url, own_of(url), charge_and_stop) as cluster:
        await owns(cluster, 16)
        await cluster.send(cluster.ref(Order, "o"), Ordered("o"))
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
