"""The world of a scenario: what a test does to sagas, and sees of them, in virtual time.

    def paid_in_any_order(world):
        world.publish(OrderPlaced("o-1", 100))
        world.any_order(PaymentReceived("o-1"), StockReserved("o-1"))
        world.advance(days=90)
        assert world.state(Order, "o-1").status == "shipped"

Plain calls, no event loop: each lets the simulated processes run until it is answered. What is sent
is sent again under its message id until it is acknowledged, through crashes and outages.
Next to read: ``machine.py``, whose time it is; ``nemesis.py``, who works against it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from perdure.errors import DefinitionError
from perdure.messages import datetime_of
from perdure.runtime.definitions import Saga
from perdure.runtime.delivery import Receipt
from perdure.runtime.letters.letters import DeadLetter
from perdure.runtime.looking.history import HistoryEntry
from perdure.runtime.looking.views import InstanceView
from perdure.runtime.runtime import Runtime
from perdure.testing.simulation.calls import Call, Calls
from perdure.testing.simulation.checks import (
    answered_alike,
    compare_with_history,
    receipts_hold,
    tables_agree,
)
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.clock import START_MS
from perdure.testing.simulation.counts import Counts
from perdure.testing.simulation.ledger import Effect, Ledger
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.nemesis import Nemesis
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.process import SimProcess
from perdure.testing.simulation.rest import SETTLE_S, Rest
from perdure.testing.simulation.spec import Spec
from perdure.testing.simulation.tables import Tables
from perdure.testing.simulation.violation import Violation

__all__ = ["World"]

T = TypeVar("T")


class World:
    """One run of a scenario. ``effects`` is the outside's book, ``now`` the wall time."""

    def __init__(self, spec: Spec, choices: Choices, plan: Plan, path: str) -> None:
        self.counts = Counts(runs=1)
        self.machine = Machine(choices)
        self.plan = plan
        self.effects = Ledger(self._noted, lambda: self.machine.now_ns / 1e9)
        resources = spec.resources_of(self)
        spec.blueprint(resources)  # what is declared wrongly is said here
        self.tables = Tables(path)
        self._violation: Violation | None = None
        self._receipts: list[Receipt] = []
        self._buried: set[tuple[str, str]] = set()
        self._repeated: list[tuple[Call, Call]] = []
        self._sends = 0
        self._enqueued: set[str] = set()
        self.calls = Calls(self.machine, self.counts, self._pick, self._answered)
        self.nemesis = Nemesis(
            spec, self.machine, plan, path, resources, self.calls.up, self.calls.down
        )
        self.rest = Rest(
            self.machine, plan, self.calls, self.nemesis, self.tables, self._now_ms, self._run
        )
        self.nemesis.start()

    def __repr__(self) -> str:
        return "world"

    @property
    def now(self) -> datetime:
        """What the wall clock shows (aware, UTC)."""
        return datetime_of(self._now_ms())

    # What a scenario does

    def publish(self, message: Any, *, message_id: str | None = None) -> list[Receipt]:
        """Publish; the receipts come after the commits. Raises what ``Runtime.publish`` does.

        What may pass by itself (no process, no room, a store that fails) is tried again.
        """
        receipts: list[Receipt] = self._wait(self._publish(message, message_id))
        return receipts

    def send(
        self, saga: Saga | str, correlation_id: Any, message: Any, *, message_id: str | None = None
    ) -> Receipt:
        """Send to one instance; otherwise as ``publish``."""
        name = message_id or self._next_id()
        what = f"{type(message).__name__} {name} to {correlation_id}"

        async def ask(runtime: Runtime) -> Receipt:
            return await runtime.send(runtime.ref(saga, correlation_id), message, message_id=name)

        receipt: Receipt = self._wait(self._sent(what, ask))
        return receipt

    def any_order(self, *messages: Any) -> list[list[Receipt]]:
        """Publish them in an order that the seed draws, one after another or at the same time.

        Raises what the first that failed raised, when all are done.
        """
        order = list(range(len(messages)))
        choices = self.machine.choices
        choices.shuffle("any order", order)
        calls: dict[int, Call] = {}
        at_s = 0.0
        for index in order:
            if choices.number("concurrently") > 0.5:
                at_s += choices.spread("apart", 0.000_1, 1.0)
            calls[index] = self._publish(messages[index], None, at_s)
        self._run(lambda: all(call.is_done for call in calls.values()))
        return [self._wait(calls[index]) for index in range(len(messages))]

    def enqueue(self, command: Any, *, queue: str | None = None, job_id: str | None = None) -> str:
        """Have a worker perform a command; its job's id. Raises as ``Runtime.enqueue``."""
        name = job_id or self._next_id()
        self._enqueued.add(name)

        async def ask(runtime: Runtime) -> list[Receipt]:
            await runtime.enqueue(command, queue=queue, job_id=name)
            return []

        self._wait(self._sent(f"{type(command).__name__} {name}", ask))
        return name

    def advance(self, **length: float) -> None:
        """Let time pass, as in ``advance(days=90)``; then ``settle``.

        Takes what ``timedelta`` takes. Deadlines, retries and passivation happen on the way.
        """
        microseconds = int(timedelta(**length) / timedelta(microseconds=1))
        if microseconds < 0:
            raise DefinitionError(
                f"time does not go back, by {timedelta(**length)}", remedy="advance it"
            )
        until_ns = self.machine.now_ns + microseconds * 1000
        self._run(lambda: False, until_ns)
        self.settle()

    def settle(self) -> None:
        """Wait until what can be done is done and the rest waits for time to pass.

        Faults go on for a while; then there are no new ones until it is quiet.
        """
        self.rest.come()

    def crash(self) -> None:
        """Kill the process now, as by ``kill -9``; another one starts."""
        process = self.nemesis.newest
        if process is not None:
            self.nemesis.crash(process, "by the scenario", None)

    def restart(self) -> None:
        """Stop the process in good order, and start another one."""
        self._run(lambda: self.nemesis.newest is not None)
        process = self.nemesis.newest
        assert process is not None
        self.nemesis.stop(process, 0.0)
        self._run(lambda: not process.is_alive)
        self._run(lambda: self.nemesis.newest is not None)

    def ask(self, question: Callable[[Runtime], Awaitable[T]]) -> T:
        """Ask the runtime itself, as ``world.ask(lambda runtime: runtime.cancel(…))``.

        Repeated until it is answered, so it must be safe to repeat.
        """
        self._buried |= self.tables.letters()  # it may discard some
        answer: T = self._wait(self.calls.make(Call("a question", question, is_send=False)))
        return answer

    # What a scenario sees

    def state(self, saga: Saga | str, correlation_id: Any) -> Any:
        """The committed state of an instance, None if there is none."""
        view = self.instance(saga, correlation_id)
        return None if view is None else view.state

    def instance(self, saga: Saga | str, correlation_id: Any) -> InstanceView | None:
        """State, status, deadlines, result: see ``InstanceView``; None if there is none."""
        return self.ask(lambda runtime: runtime.state(runtime.ref(saga, correlation_id)))

    def history(self, saga: Saga | str, correlation_id: Any) -> list[HistoryEntry]:
        """The turns of an instance."""

        async def ask(runtime: Runtime) -> list[HistoryEntry]:
            return [entry async for entry in runtime.history(runtime.ref(saga, correlation_id))]

        return self.ask(ask)

    def dead_letters(self) -> list[DeadLetter]:
        """What could not be processed, oldest first."""

        async def ask(runtime: Runtime) -> list[DeadLetter]:
            return [letter async for letter in runtime.dead_letters.list()]

        return self.ask(ask)

    # The end

    def finish(self) -> None:
        """Let all come to rest, without faults at last, and check. Raises ``Violation``."""
        self.settle()
        self.restart()
        self.settle()
        self.plan.is_calm = True
        self.nemesis.leave_one()
        self.settle()
        for first, again in self._repeated:
            answered_alike(first, again)
        tables_agree(self.tables, self.nemesis.settings.processed_window)
        receipts_hold(self.tables, self._receipts, self._buried)
        self.ask(lambda runtime: compare_with_history(runtime._parts()))

    def counted(self) -> Counts:
        """The figures of this run."""
        counts, machine, kinds = self.counts, self.machine, self.plan.struck
        for name in kinds:
            kind = name.rpartition("#")[0]
            counts.faults["crash at a boundary" if kind.startswith("crash K") else kind] += 1
        counts.kills.update(self.nemesis.kills)
        counts.processes = len(machine.processes) + len(machine.graveyard)
        counts.batches, counts.virtual_s = machine.batches, machine.now_ns / 1e9
        counts.effects = len(self.effects.all)
        counts.turns = self.tables.one("SELECT count(*) FROM journal") or 0
        counts.instances = self.tables.one("SELECT count(*) FROM instances") or 0
        counts.dead_letters = self.tables.one("SELECT count(*) FROM dead_letters") or 0
        return counts

    def bury(self) -> None:
        """The run is over: free everything."""
        self.effects.is_closed = True
        self.machine.bury()
        self.tables.close()

    # Sending

    def _publish(self, message: Any, message_id: str | None, delay_s: float = 0.0) -> Call:
        name = message_id or self._next_id()

        async def ask(runtime: Runtime) -> list[Receipt]:
            return await runtime.publish(message, message_id=name)

        return self._sent(f"{type(message).__name__} {name}", ask, delay_s)

    def _sent(
        self, what: str, ask: Callable[[Runtime], Awaitable[Any]], delay_s: float = 0.0
    ) -> Call:
        faults = self.plan.faults
        details = self.plan.strikes("aimed", faults.aimed)
        if details is not None:
            delay_s += self._until_delicate_s(details)
        call = self.calls.make(Call(what, ask, is_send=True), delay_s)
        details = self.plan.strikes("duplicate", faults.duplicate)
        for _ in range(0 if details is None else details.whole("copies", 1, 3)):
            assert details is not None
            later_s = delay_s + details.spread("later", 0.000_1, 1.0)
            again = Call(f"{what} again", ask, is_send=True)
            self._repeated.append((call, self.calls.make(again, later_s)))
        return call

    def _until_delicate_s(self, details: Choices) -> float:
        """Seconds until an instance leaves memory, or a deadline is due; a little off either."""
        off_s = 0.02 * (details.number("off") - 0.5)
        idle_s = self.nemesis.settings.idle_after_s
        due_ms = self.tables.next_deadline_ms()
        options = [details.spread("any", 0.000_1, 0.1)]
        if idle_s is not None and idle_s < SETTLE_S:
            options.append(idle_s + off_s)
        if due_ms is not None and due_ms - self._now_ms() < SETTLE_S * 1000:
            options.append((due_ms - self._now_ms()) / 1000 + off_s / 10)
        return max(0.0, details.pick("instant", options))

    def _next_id(self) -> str:
        self._sends += 1
        return f"m{self._sends}"

    def _pick(self, call: Call) -> SimProcess | None:
        """Who gets it: of those that are up, anyone; only the newest is right about what is."""
        newest = self.nemesis.newest
        if call.is_send:
            up = [process for process in self.machine.processes if process.is_ready]
            if len(up) > 1:
                return self.machine.choices.pick("who is asked", up)
        return newest

    def _answered(self, call: Call) -> None:
        if call.error is None:
            found = call.result if isinstance(call.result, list) else [call.result]
            self._receipts += [one for one in found if isinstance(one, Receipt)]

    def _noted(self, effect: Effect) -> None:
        self.machine.note("effect", f"{effect.key} {effect.what}")
        is_asked_for = effect.key in self._enqueued or self.tables.has_job(effect.key)
        if self._violation is None and not is_asked_for:
            self._violation = Violation(
                "nothing is done that no committed turn asked for",
                f"{effect.key}, {effect.what!r}",
            )

    # Waiting

    def _wait(self, call: Call) -> Any:
        if not self._run(lambda: call.is_done):
            raise Violation("every send is answered", f"nothing will ever answer {call.what}")
        if call.error is not None:
            raise call.error
        return call.result

    def _run(self, until: Callable[[], bool], until_ns: int | None = None) -> bool:
        is_so = self.machine.run(until, until_ns)
        if self._violation is not None:
            raise self._violation
        return is_so

    def _now_ms(self) -> int:
        return START_MS + self.machine.now_ns // 1_000_000 + self.machine.offset_ms
