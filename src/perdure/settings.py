"""The limits and periods of a runtime, in one place. Units come last in the names.

Next to read: ``runtime/runtime.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from perdure.errors import DefinitionError

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much a runtime may hold, and how long it may wait.

        Runtime("sqlite+aiosqlite:///orders.db", [Order], Settings(residents_max=10_000))

    Residence: an instance is passivated after ``idle_after_s`` without a message (None: never) and
    when more than ``residents_max`` are in memory. Rehydration reads up to ``rehydrations_max``
    instances at a time. A snapshot follows every ``snapshot_every`` turns.

    Flow: at most ``mailbox_max`` accepted and uncommitted messages per instance and
    ``in_flight_max`` in all; a sender waits up to ``accept_timeout_s`` for room, then is refused.
    One transaction takes up to ``batch_max`` turns. Of an instance's messages up to ``waiting_max``
    wait in the inbox, parked or behind one that is tried again; more are refused.

    Deduplication: at least the last ``processed_window`` message ids of an instance are known; a
    message repeated later than that is applied again.

    Work: ``queue_window`` jobs of a work queue are held in memory, the rest waits in the store.
    Workers that are plain functions share ``worker_threads_max`` threads.

    User code on the event loop: what blocks it for longer than ``loop_block_limit_s``, be it a
    turn, a fold, ``correlate`` or a worker that is a coroutine, is reported within twice that time,
    with its stack. A turn that took longer than ``turn_limit_s`` is not committed; that is as if it
    had raised ``TurnTooLong``. (Also if it was the process that stood still in the midst of it.)

    Deadlines: ``deadlines_in_flight_max`` fire at a time; ``deadline_page`` are read at a time.

    Failure: a write that fails is settled by reading back and tried again ``write_attempts`` times
    in all, with a growing pause from ``retry_pause_s``, before its senders are refused.
    ``shutdown_timeout_s`` is how long ``stop`` drains before it abandons what is left.

    ``freeze_residents``: at the start and whenever the number of residents has grown by a tenth,
    tell Python's garbage collector to look no more at what is there (``gc.freeze``), and until the
    stop to look at new objects less often (``gc.set_threshold``). With 100,000 residents it would
    otherwise spend a third of the time on them. Off by default since it concerns the whole process:
    cyclic garbage of others that is about then stays.

    ``control_socket``: over a file, listen on a local socket beside it, by which the same user's
    command line repairs what runs (``perdure.ops.control``).

    ``message_bytes_max`` bounds one stored message, event, command, reply, or state;
    ``turn_bytes_max`` all that one turn records and sends.
    """

    idle_after_s: float | None = 120.0
    residents_max: int = 100_000
    rehydrations_max: int = 100
    snapshot_every: int = 100
    mailbox_max: int = 1_000
    waiting_max: int = 10_000
    in_flight_max: int = 50_000
    accept_timeout_s: float = 5.0
    batch_max: int = 1_000
    processed_window: int = 1_000
    queue_window: int = 1_000
    worker_threads_max: int = 64
    loop_block_limit_s: float = 1.0
    turn_limit_s: float = 10.0
    deadlines_in_flight_max: int = 1_000
    deadline_page: int = 10_000
    write_attempts: int = 3
    retry_pause_s: float = 0.05
    shutdown_timeout_s: float = 30.0
    freeze_residents: bool = False
    control_socket: bool = True
    message_bytes_max: int = 1_048_576
    turn_bytes_max: int = 16_777_216

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None and entry.name == "idle_after_s":
                continue
            kinds = (int, float) if entry.name.endswith("_s") else (type(entry.default),)
            # Written so that NaN, which is neither above nor below, is refused.
            if type(value) not in kinds or (type(value) is not bool and not value > 0):
                raise DefinitionError(
                    f"setting {entry.name} is {value!r}", remedy=_WANTED[kinds[-1]]
                )


_WANTED = {
    float: "give a number of seconds above zero",
    int: "give a whole number above zero",
    bool: "give True or False",
}
