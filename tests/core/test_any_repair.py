"""Whatever people repair of an ordered saga, in whatever order: it is replayed, and has its end.

Any plan of ``test_any_course.py``; steps succeed and fail; between them somebody skips, marks as
done, turns back, restarts. What a repair takes away nobody performs any more, as in the runtime.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from perdure.core.correlation import VerdictKind
from perdure.core.intervening import intervene
from perdure.core.intervention import Intervention
from perdure.core.ordered import Mode
from perdure.core.plan import Plan
from perdure.core.step_events import CompensationStepStarted, Restarted, StepLeftOut
from perdure.errors import NotRepairable
from perdure.messages import Message
from tests.core.courses import NAMES, NOW_MS, PerformStep, Play, Status, Trip
from tests.core.test_any_course import plans
from tests.effort import times

EXAMPLES = times(120)
ACTIONS = ("skip", "mark_done", "compensate", "restart_from")


class AnyRepair(RuleBasedStateMachine):
    """One saga, its workers, and somebody who repairs it."""

    @initialize(plan=plans())
    def begin(self, plan: Plan) -> None:
        self.play = Play(plan)
        self.done: set[str] = set()
        self.play.begin()

    def end(self, id: str, succeeds: bool, is_unknown: bool) -> None:
        command = self.play.open[id]
        kind, name = type(command), command.step
        if not succeeds:
            self.play.take(name, kind)
            self.play.tell(self.play.failure(command, is_unknown))
        elif kind is PerformStep:
            self.done.add(command.key)
            self.play.done(name)
        else:
            self.play.undone(name)

    @rule(which=st.integers(0, 5), succeeds=st.booleans(), is_unknown=st.booleans())
    def a_command_ends(self, which: int, succeeds: bool, is_unknown: bool) -> None:
        if self.play.open:
            ids = list(self.play.open)
            self.end(ids[which % len(ids)], succeeds, is_unknown)

    @invariant()
    def what_was_done_is_not_done_again_under_its_key(self) -> None:
        for command in self.play.open.values() if hasattr(self, "play") else ():
            assert type(command) is not PerformStep or command.key not in self.done, command.key

    @rule()
    def resumed(self) -> None:
        if self.play.status is Status.STUCK:
            self.play.resume()

    @rule(action=st.sampled_from(ACTIONS), step=st.sampled_from(NAMES))
    def repaired(self, action: str, step: str) -> None:
        with suppress(NotRepairable):
            self.repair(action, step)

    def repair(self, action: str, step: str) -> None:
        play, repairs = self.play, self.play.definition.repairs
        assert repairs is not None
        is_over = play.status.is_over
        if is_over and action == "compensate":
            return  # refused before it comes here
        meant = {
            "skip": lambda: repairs.skip(play.state, step, is_over),
            "mark_done": lambda: repairs.mark_done(play.state, step, {step: 1}, is_over),
            "compensate": lambda: repairs.compensate(play.state),
            "restart_from": lambda: repairs.restart_from(play.state, step, is_over),
        }[action]()
        said = Intervention(
            action, "ann", "so", meant.text, step, meant.content, seen=play.instance.sequence_nr
        )
        name, version, body = play.codec.encode(said)
        told = Message(said, name, version, body, f"m-{len(play.rows)}", NOW_MS)
        kind, before = VerdictKind.CONTINUE, len(play.recorded)
        turn = intervene(play.definition, play.instance, told, kind, NOW_MS, play.encoder)
        for id, command in list(play.open.items()):
            if repairs.step_of(command) in meant.steps:
                del play.open[id]
        play.instance = turn.after
        play.rows.append((told.message_id, play.journal.encode_turn(turn)))
        play.recorded += [play.codec.decode(*stored) for stored in turn.events]
        for out in turn.outgoing:
            play._sent(out)
        play.check_replay()
        assert len(play.recorded) > before, "a repair that records nothing"

    def teardown(self) -> None:
        """From wherever it is, it comes to its end if all goes well from now on."""
        if not hasattr(self, "play"):
            return
        play = self.play
        for _ in range(200):
            if play.open:
                self.end(next(iter(play.open)), True, False)
            elif play.status is Status.STUCK:
                play.resume()
            else:
                break
        assert play.status.is_over, (play.steps(), play.log())
        assert (play.state.mode is Mode.COMPLETED) == (play.status is Status.COMPLETED)
        self.check_the_end()

    def check_the_end(self) -> None:
        steps = self.play.steps()
        if self.play.state.mode is Mode.COMPLETED:
            for name in self.play.plan.by_name:
                assert steps[name] in ("completed", "left out"), steps
                if steps[name] == "completed":
                    assert self.result_of(name) == 1
        left_out: set[str] = set()
        for event in self.play.recorded:
            if type(event) is StepLeftOut:
                left_out.add(event.step)
            elif type(event) is Restarted:
                left_out -= set(event.steps)
            elif type(event) is CompensationStepStarted:
                assert event.step not in left_out, self.play.log()

    def result_of(self, name: str) -> Any:
        assert type(self.play.state.data) is Trip
        return getattr(self.play.state.data, name)


def test_whatever_is_repaired_the_saga_is_replayed_and_has_its_end() -> None:
    run_state_machine_as_test(
        AnyRepair,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
