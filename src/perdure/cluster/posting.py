"""The mail of a process: letters become rows, concurrent ones in one transaction, and are answered.

    take ─> waiting ─> mail.put([…]) ─> outstanding ──answer rung──> answered
               ^            │ fails          │ the row is gone, and no answer
               └────────────┴────────────────┘ put again under its message id

One group at a time, so that rows of one process stand in the order in which it sent them. An answer
comes by the doorbell, which may lose it: so whether a row is still there is looked after. Before a
letter is put again, it is looked for in the mail and in the journal of its instance: there it would
be known by its message id, but not for ever. Knows no runtime.
Next to read: ``letters.py``; ``store/mail.py``; ``intake.py``, the other end.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import perdure.failpoints as failpoints
from perdure.cluster.letters import Letter
from perdure.codec.mail import Answer, unpack_replies
from perdure.core.correlation import split_key
from perdure.errors import DecodeError, EncodeError, OutcomeUnknown, StoreError
from perdure.failpoints import Point
from perdure.runtime.clock import Clock, Wake
from perdure.runtime.supervised import Background, growing_s
from perdure.settings import Settings
from perdure.store.mail import Mail, MailRow

__all__ = ["Posting", "reply_address", "split_address"]

logger = logging.getLogger("perdure.cluster")

GROUP_MAX = 500
"""So many rows are put in one transaction, and looked after in one query."""

GROUP_BYTES_MAX = 4_000_000
"""A group whose rows have as many is put as it is: a statement must end in time, and has limits."""

POLLS = 2
"""So many times ``poll_s`` nobody looks after a row; then twice as long each time, ..."""

LOOKS_DOUBLED = 4
"""... so many times."""

MISSES = 2
"""So often in a row a row must be gone without an answer: an answer may just be on its way."""


def reply_address(channel: str, token: int) -> str:
    """``MailRow.reply_to`` of a letter: where its answer is rung, and for whom."""
    return f"{channel}/{token}"


def split_address(reply_to: str) -> tuple[str, int]:
    """(channel, token) of a ``MailRow.reply_to``. Raises ValueError."""
    channel, _, token = reply_to.rpartition("/")
    return channel, int(token)


class Posting:
    """The letters of one process that go by mail.

    ``channel``: where its answers are rung. ``bells``: those of these keys' owners in other
    processes. ``put``: rows for these keys are there. ``read``: a told letter's row is there; call
    its lane when it cannot be overtaken any more.
    """

    def __init__(
        self,
        mail: Mail,
        clock: Clock,
        settings: Settings,
        channel: str,
        bells: Callable[[Sequence[str]], Sequence[str]],
        put: Callable[[Sequence[str], bool], None],
        read: Callable[[Letter], None],
        poll_s: float,
    ) -> None:
        self._mail = mail
        self._clock = clock
        self._settings = settings
        self._channel = channel
        self._bells = bells
        self._is_put = put
        self._read = read
        self._look_s = POLLS * poll_s
        self._waiting: deque[Letter] = deque()
        self._outstanding: dict[int, Letter] = {}
        self._last = 0
        self._failures = 0
        self._pause: Wake | None = None
        self._next_look: Wake | None = None
        self._is_stopped = False
        pause_s = settings.retry_pause_s
        self._putting = Background(clock, pause_s, "posting mail", self._put_all)
        self._looking = Background(
            clock, pause_s, "looking after posted mail", self._look, self._look_later
        )

    # The way out

    def take(self, letter: Letter) -> None:
        """Post a letter."""
        if not letter.token:
            self._last += 1
            letter.token = self._last
        self._waiting.append(letter)
        if self._pause is None:
            self._putting.start()

    def returned(self) -> None:
        """Mail does not come back."""

    async def _put_all(self) -> None:
        while self._waiting and self._pause is None:
            group, rows = self._take_group()
            if not group:
                continue
            bells = None
            if not any(one.is_told for one in group):  # who is asked for is put again if it is lost
                bells = self._bells([row.instance for row in rows])
            failpoints.reach(Point.MAIL_PUT)
            try:
                group, rows = await self._unknown(group, rows)
                positions = await self._mail.put(rows, bells)
                failpoints.reach(Point.MAIL_PUT)
            except StoreError as error:
                self._failed(group, error)
            except BaseException:
                self._waiting.extendleft(reversed(group))
                raise
            else:
                self._failures = 0
                self._is_put([row.instance for row in rows], bells is not None)
                self._put(group, positions)

    def _take_group(self) -> tuple[list[Letter], list[MailRow]]:
        group: list[Letter] = []
        rows: list[MailRow] = []
        now_ms, size = self._clock.now_ms(), 0
        while self._waiting and len(group) < GROUP_MAX and size < GROUP_BYTES_MAX:
            letter = self._waiting.popleft()
            if letter.is_over:
                continue
            reply_to = "" if letter.is_told else reply_address(self._channel, letter.token)
            row = letter.row(reply_to, now_ms)
            if "\0" in row.message_id:  # one that the database refuses would fail all the others
                letter.fail(_with_nul(row))
                continue
            letter.posts += 1
            if not letter.is_told:  # before it is there: its answer may come at once
                self._outstanding[letter.token] = letter
            group.append(letter)
            rows.append(row)
            size += len(row.body)
        return group, rows

    async def _unknown(
        self, group: list[Letter], rows: list[MailRow]
    ) -> tuple[list[Letter], list[MailRow]]:
        """Those to be put: one that was put before may be there still, or be in the journal.

        Its instance knows the ids of its last turns alone, and may have taken many meanwhile.
        """
        pairs = list(zip(group, rows, strict=True))
        again = [
            (row.instance, row.message_id)
            for letter, row in pairs
            if letter.posts > 1 and letter.is_journaled
        ]
        traces = await self._mail.traces(again) if again else {}
        if not traces:
            return group, rows
        left: list[tuple[Letter, MailRow]] = []
        for letter, row in pairs:
            trace = traces.get((row.instance, row.message_id))
            if trace is None or letter.posts == 1:
                left.append((letter, row))
            elif trace.position:
                self._put([letter], [trace.position])
            else:
                self._outstanding.pop(letter.token, None)
                letter.found(trace.sequence_nr)
        return [letter for letter, _ in left], [row for _, row in left]

    def _put(self, group: Sequence[Letter], positions: Sequence[int]) -> None:
        look_at_s = self._clock.monotonic_s() + self._look_s
        for letter, position in zip(group, positions, strict=True):
            letter.position, letter.look_at_s = position, look_at_s
            letter.failures = letter.misses = 0
            if letter.is_told and not letter.is_over:
                letter.posted()
                self._read(letter)
        self._look_later()

    def _failed(self, group: Sequence[Letter], error: StoreError) -> None:
        """They may be there or not: put them again; who waits for an answer does so for a while."""
        self._failures += 1
        logger.warning("posting %d letters failed: %s", len(group), error)
        back: list[Letter] = []
        for letter in group:
            letter.failures += 1
            if letter.is_told or letter.failures < self._settings.write_attempts:
                back.append(letter)
            else:
                self._outstanding.pop(letter.token, None)
                letter.fail(_unknown(letter, error))
        self._waiting.extendleft(reversed(back))
        delay_s = growing_s(self._settings.retry_pause_s, self._failures)
        self._pause = self._clock.call_later(delay_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if not self._is_stopped:
            self._putting.start()

    # The way back

    def hear(self, payload: str) -> None:
        """Answers were rung; or "": some may have been missed."""
        if not payload:
            for letter in self._outstanding.values():
                letter.look_at_s = 0.0
            self._looking.start()
            return
        try:
            answers = unpack_replies(payload)
        except DecodeError as error:
            logger.warning("an answer could not be read, and is asked for again: %s", error)
            return
        for answer in answers:
            self.heard(answer)

    def heard(self, answer: Answer) -> None:
        """One answer; to whom nobody waits for any more it does nothing."""
        letter = self._outstanding.pop(answer.token, None)
        if letter is not None:
            letter.answered(answer)

    def _look_later(self) -> None:
        if self._next_look is None and self._outstanding and not self._is_stopped:
            self._next_look = self._clock.call_later(self._look_s, self._look_now)

    def _look_now(self) -> None:
        self._next_look = None
        self._looking.start()

    async def _look(self) -> None:
        """Of letters that have no answer: those whose row is gone are put again."""
        now_s = self._clock.monotonic_s()
        for token, letter in list(self._outstanding.items()):
            if letter.is_over:
                del self._outstanding[token]
        due = [one for one in self._outstanding.values() if one.position and one.look_at_s <= now_s]
        for at in range(0, len(due), GROUP_MAX):
            group = due[at : at + GROUP_MAX]
            there = await self._mail.present([letter.position for letter in group])
            for letter in group:
                self._looked_after(letter, letter.position in there)

    def _looked_after(self, letter: Letter, is_there: bool) -> None:
        if letter.token not in self._outstanding:
            return  # answered meanwhile
        if is_there:
            letter.misses = 0
            letter.looks += 1
            pause_s = self._look_s * 2 ** min(letter.looks, LOOKS_DOUBLED)
            letter.look_at_s = self._clock.monotonic_s() + pause_s
            return
        letter.misses += 1
        if letter.misses >= MISSES:
            logger.info("no answer has come to %s, and its row is gone: put again", letter.key)
            letter.position = 0
            self.take(letter)

    async def stop(self) -> None:
        """Put nothing more, hear nothing more."""
        self._is_stopped = True
        for wake in (self._pause, self._next_look):
            if wake is not None:
                wake.cancel()
        await self._putting.stop()
        await self._looking.stop()
        left = sum(letter.is_told for letter in self._waiting)
        if left:
            logger.error("stopping: %d told messages could not be posted, and are lost", left)


def _with_nul(row: MailRow) -> EncodeError:
    saga, correlation_id = split_key(row.instance)
    return EncodeError(
        f"the message id {row.message_id!r} has a NUL character, which PostgreSQL does not store",
        saga=saga,
        correlation_id=correlation_id,
        remedy="use an id without one",
    )


def _unknown(letter: Letter, error: StoreError) -> OutcomeUnknown:
    unknown = OutcomeUnknown(
        f"the store failed while posting to {letter.key}: {error}",
        remedy="send it again under the same message id",
    )
    unknown.__cause__ = error
    return unknown
