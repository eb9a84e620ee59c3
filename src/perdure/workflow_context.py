"""The context of a coroutine workflow: everything that its code may ask for, and await.

    async def onboarding(ctx: Context, user: SignedUp) -> Onboarded:
        account = await ctx.step(create_account, user)
        await ctx.gather(ctx.step(send_welcome, account), ctx.step(add_to_crm, account))
        if await ctx.wait_event(FirstLogin, timeout=timedelta(days=30)) is None:
            await ctx.step(send_reminder, account)
        return Onboarded(user.user_id)

Each thing that is asked for has a name, and a ``key`` where one name is asked for more than once;
under that its outcome is recorded, and given back at every re-entry. What is asked for begins at
once; ``await`` waits for its end. Next to read: ``core/reentry.py``; ``workflow_coroutine.py``,
which makes contexts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from perdure.approvals import Approval, ApprovalDecided, Approvals, AskApproval
from perdure.core.gathered import Gathered
from perdure.core.private import own
from perdure.core.progress import CHILD, EVENT, Operation, Standing
from perdure.core.reentry import Reentry
from perdure.core.workflow_events import PerformStep
from perdure.correlating import name_of
from perdure.effects import Effect, Send, SetDeadline, StartChild
from perdure.errors import ChildFailed, StepFailed
from perdure.messages import kind_of, type_info_of
from perdure.workflow_checks import Checks, Declared

__all__ = ["Context", "message_or_value"]

T = TypeVar("T")


class Context:
    """What a coroutine workflow is given as its first argument.

    Everything it returns is to be awaited; nothing else may be. ``key`` (a text, a number, a UUID,
    or a tuple of these) tells apart what is asked for under one name, as in a loop.

    Mistakes are raised as ``WorkflowMistake``, and leave the instance stuck. Whatever is awaited
    may raise ``WorkflowCancelled``.
    """

    __slots__ = ("_checks", "_declared", "_reentry")

    def __init__(self, reentry: Reentry, declared: Declared) -> None:
        self._reentry = reentry
        self._declared = declared
        self._checks = Checks(reentry, declared)

    @property
    def now(self) -> datetime:
        """The time (aware, UTC) at which the coroutine came here: the same at every re-entry."""
        return self._reentry.now

    @property
    def instance_id(self) -> str:
        """The instance's correlation id."""
        return self._reentry.instance_id

    @overload
    def step(
        self,
        step: Callable[..., Coroutine[Any, Any, T]],
        input: Any = None,
        /,
        *,
        key: Any = None,
    ) -> Awaitable[T]: ...

    @overload
    def step(
        self, step: Callable[..., T], input: Any = None, /, *, key: Any = None
    ) -> Awaitable[T]: ...

    @overload
    def step(self, step: str, input: Any = None, /, *, key: Any = None) -> Awaitable[Any]: ...

    def step(self, step: Any, input: Any = None, /, *, key: Any = None) -> Awaitable[Any]:
        """Have a declared step performed, once: what its function returned.

            account = await ctx.step(create_account, user)
            for month in range(12):
                await ctx.step("charge", account, key=month)

        ``step`` is the function or its name; ``input`` (a message, or a plain value) is what the
        function is called with. Its ``job.key`` is "workflow/instance id/step" or
        "workflow/instance id/step:key"; "~" and a number follow when it was done, and somebody has
        restarted the workflow from there.

        Raises ``StepFailed`` when it has failed for good, ``UnknownStep`` if it is not declared.
        """
        spec = self._checks.spec(step)
        called = self._checks.called(spec.name, key)
        name = f"step/{called}"

        def begin() -> list[Effect]:
            where = f"{self._declared.name}/{self.instance_id}/{called}{self._reentry.again(name)}"
            command = PerformStep(
                name, spec.name, where, *message_or_value(self._checks.kept(name, input))
            )
            return [Send(command, f"{self._declared.name}.{spec.name}", within=spec.deadline)]

        def read(operation: Operation) -> Any:
            if operation.status is Standing.FAILED:
                raise StepFailed(called, operation.reason, operation.error, operation.is_unknown)
            return self._checks.outcome(name, operation)

        return self._reentry.ask(name, begin, read)

    def gather(
        self, *awaitables: Awaitable[Any], return_exceptions: bool = False
    ) -> Awaitable[list[Any]]:
        """Wait for several: what the context's methods return, or coroutines that await such.

            mail, crm = await ctx.gather(ctx.step(send_mail, user), ctx.step(add_to_crm, user))

        The results come in the order of the arguments. As with ``asyncio.gather``, the first
        failure is raised as soon as it is known, and takes nothing back of what the others have
        asked for; with ``return_exceptions`` all are waited for, failures are among the results.
        """
        return Gathered(self._reentry, awaitables, return_exceptions)

    def sleep(
        self,
        name: str = "sleep",
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        until: datetime | None = None,
        key: Any = None,
    ) -> Awaitable[None]:
        """Go on so long after this turn, or at a moment; survives restarts, and costs nothing.

        await ctx.sleep(days=30)
        await ctx.sleep("trial", until=account.trial_ends_at)
        """
        called = f"sleep/{self._checks.called(name, key)}"
        if until is None:
            after = self._checks.duration(called, weeks, days, hours, minutes, seconds)
        elif not isinstance(until, datetime) or until.tzinfo is None:
            raise self._checks.mistake(f"{called} until {until!r}", "give an aware datetime")
        elif any((weeks, days, hours, minutes, seconds)):
            raise self._checks.mistake(f"{called} has until= and a duration", "give one of them")
        else:
            after = None
        return self._reentry.ask(called, lambda: [SetDeadline(called, after, until)], _nothing)

    @overload
    def wait_event(
        self, event: type[T], /, *, timeout: None = None, name: str | None = None, key: Any = None
    ) -> Awaitable[T]: ...

    @overload
    def wait_event(
        self, event: type[T], /, *, timeout: timedelta, name: str | None = None, key: Any = None
    ) -> Awaitable[T | None]: ...

    @overload
    def wait_event(
        self,
        event: str,
        /,
        *,
        timeout: timedelta | None = None,
        name: str | None = None,
        key: Any = None,
    ) -> Awaitable[Any]: ...

    def wait_event(
        self,
        event: Any,
        /,
        *,
        timeout: timedelta | None = None,
        name: str | None = None,
        key: Any = None,
    ) -> Awaitable[Any]:
        """Wait for a declared event; the event, or None if ``timeout`` has passed.

            login = await ctx.wait_event(FirstLogin, timeout=timedelta(days=30))

        Events that came before anybody waits are kept, in order; each is given to one wait.
        ``name`` is the event's type name unless given.
        """
        if not isinstance(event, (type, str)) or event not in self._declared.events:
            raise self._checks.unknown("event", name_of(event), map(name_of, self._declared.events))
        info = None if isinstance(event, str) else type_info_of(event)
        default = event if info is None else info.name
        called = f"{EVENT}{self._checks.called(default if name is None else name, key)}"
        self._checks.check_timeout(called, timeout)

        def is_wanted(heard: Any) -> bool:
            return bool(kind_of(heard) == event)

        return self._reentry.take(
            called, is_wanted, lambda: _limit(called, timeout), _taken, str(default)
        )

    def child(
        self,
        name: str,
        saga: Any,
        message: Any,
        /,
        *,
        id: Any = None,
        timeout: timedelta | None = None,
        key: Any = None,
    ) -> Awaitable[Any]:
        """Start an instance of another saga with a message, and wait for what it completes with.

            verdict = await ctx.child("kyc", checks, CheckAsked(user.id), timeout=timedelta(days=3))

        Without an ``id`` its correlation id is "own id/name". After ``timeout`` it is cancelled and
        not waited for any longer.

        Raises ``ChildFailed``.
        """
        called = self._checks.called(name, key)
        whole = f"{CHILD}{called}"
        self._checks.check_timeout(whole, timeout)

        def begin() -> list[Effect]:
            return [
                StartChild(called, saga, self._checks.kept(whole, message), id),
                *_limit(whole, timeout),
            ]

        def read(operation: Operation) -> Any:
            if operation.status is Standing.TIMED_OUT:
                raise ChildFailed(called, "timed out", "")
            if operation.status is Standing.FAILED:
                raise ChildFailed(called, operation.reason, operation.error)
            return self._checks.outcome(whole, operation)

        return self._reentry.ask(whole, begin, read)

    def approval(
        self,
        name: str,
        /,
        *,
        of: Any,
        policy: Approval,
        requester: str = "",
        timeout: timedelta | None = None,
        key: Any = None,
    ) -> Awaitable[ApprovalDecided]:
        """Ask people whether this may be done, and wait for what they decide.

            pay = PayInvoice(invoice.id, invoice.cents)
            decided = await ctx.approval("payment", of=pay, policy=Approval(Who(groups=("cfo",))))
            if decided.approves(pay):
                await ctx.step(carry_out, pay)

        A child of ``Approvals`` (see ``perdure.approvals``), which the runtime must have; its id is
        "own id/name".

        Raises ``ChildFailed``.
        """
        asked = AskApproval("", of, policy, requester)
        return self.child(name, Approvals, asked, timeout=timeout, key=key)

    def publish(
        self, event: Any, /, *, name: str | None = None, key: Any = None
    ) -> Awaitable[None]:
        """Publish an event to whoever is interested, once, when this turn is committed.

        await ctx.publish(UserOnboarded(user.id))
        """
        info = type_info_of(type(event))
        if info is None:
            raise self._checks.mistake(
                f"{event!r} is published, and no message", "mark its class with @message"
            )
        called = f"publish/{self._checks.called(info.name if name is None else name, key)}"
        return self._reentry.publish(called, lambda: self._checks.kept(called, event))


def message_or_value(given: Any) -> tuple[Any, Any]:
    """(message, None) or (None, plain value)."""
    return (given, None) if type_info_of(type(given)) is not None else (None, given)


def _limit(name: str, timeout: timedelta | None) -> list[Effect]:
    return [] if timeout is None else [SetDeadline(name, timeout)]


def _taken(operation: Operation) -> Any:
    return own(operation.message)


def _nothing(operation: Operation) -> None:
    return None
