"""Whatever happens to an ordered saga, in whatever order: real turns against a model of the world.

The world knows what really had its effect. The saga is told part of it, late, twice, or not at all;
its definition changes and comes back; its process dies at any moment. At the end the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure.core.ordered import Mode
from perdure.core.plan import Plan
from perdure.core.step_events import (
    CompensateStep,
    CompensationSkipped,
    CompensationStepStarted,
    PerformStep,
    Residue,
    StepCompensated,
    StepCompleted,
    StepFailed,
)
from perdure.messages import CommandFailed
from perdure.step_results import compensated, completed
from tests.core.courses import NAMES, Outcome, Play, Status, Trip, plan_of, step
from tests.effort import times

EXAMPLES = times(250)
REASONS = ("exhausted", "expired", "cancelled", "non-retryable")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any graph of up to six steps; a pivot has the others before or after it."""
    count = draw(st.integers(1, 6))
    pivot = draw(st.one_of(st.none(), st.integers(0, count - 1)))
    steps: list[dict[str, Any]] = []
    for index, name in enumerate(NAMES[:count]):
        after = draw(st.sets(st.sampled_from(NAMES[:index]))) if index else set()
        is_past = pivot is not None and index >= pivot
        if pivot == index:
            after = set(NAMES[:index])
        elif pivot is not None and is_past:
            after |= {NAMES[pivot]}
        undo = not is_past and draw(st.booleans() | st.just(True))
        policy = undo and draw(st.booleans())
        steps.append(step(name, sorted(after), undo, policy, pivot == index))
    is_forward_only = not pivot and draw(st.integers(0, 5)) == 0
    if is_forward_only:
        steps = [{**one, "undo_queue": "", "undoes_unknown": False} for one in steps]
    return plan_of(*steps, forward_only=is_forward_only)


def changed(plan: Plan, gone: str) -> Plan | None:
    """The plan without a step; for "" with one more, before all others."""
    kept = [
        {
            "name": one.name,
            "queue": one.queue,
            "after": tuple(other for other in one.after if other != gone)
            + (() if gone else ("z",)),
            "undo_queue": one.undo_queue,
            "undoes_unknown": one.undoes_unknown,
            "is_pivot": one.is_pivot,
            "deadline": None,
        }
        for one in plan.steps
        if one.name != gone
    ]
    if not gone:
        kept.insert(0, step("z"))
    return plan_of(*kept, forward_only=plan.forward_only) if kept else None


@dataclass
class Result:
    """The end of a command, on its way to the saga."""

    id: str
    command: Any
    content: Any
    is_redriven: bool


@dataclass
class World:
    """What has really happened, and what the saga was told."""

    has_effect: dict[str, bool] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """Told to be done, or in doubt and to be undone; in this order."""
    undone: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    """Told to have failed in an unknown way, ever."""
    turned: set[str] = field(default_factory=set)
    """Seen to be undone, or skipped."""
    pivot_passed: bool = False
    out_of_hand: set[str] = field(default_factory=set)
    """Redriven behind the saga's back, and it could not be told in time."""


class AnyCourse(RuleBasedStateMachine):
    play: Play
    plan: Plan
    world: World

    @initialize(plan=plans())
    def begin(self, plan: Plan) -> None:
        self.plan, self.world, self.play = plan, World(), Play(plan)
        self.before = {one.name: self._ancestors(one.name) for one in plan.steps}
        self.results: list[Result] = []
        self.told: list[Any] = []
        self.letters: dict[str, Any] = {}
        self.redriven: set[str] = set()
        self.doubled: set[str] = set()  # resumed while its redriven letter was at work, too
        self.gone: str | None = None  # the step that a careless definition lacks; "": has one more
        self.hear(self.play.begin(f=0))

    def _ancestors(self, name: str) -> set[str]:
        found: set[str] = set()
        for one in self.plan.by_name[name].after:
            found |= {one} | self._ancestors(one)
        return found

    # What may happen

    @precondition(lambda self: self.play.open)
    @rule(data=st.data(), is_told=st.booleans())
    def a_worker_ends(self, data: st.DataObject, is_told: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.play.open)))
        ends = ["done"] * 3 + ["failed", "unknown with effect", "unknown without", "invalid"]
        self.end(id, data.draw(st.sampled_from(ends)), data.draw(st.sampled_from(REASONS)))
        if is_told:
            self.deliver(-1)

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def the_saga_is_told(self, data: st.DataObject) -> None:
        self.deliver(data.draw(st.integers(0, len(self.results) - 1)))

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def the_saga_is_told_again(self, data: st.DataObject) -> None:
        content = data.draw(st.sampled_from(self.told))
        if self.is_known(content):
            assert self.play.tell(content).outcome is not Outcome.APPLIED

    @rule(how=st.sampled_from(["cancel", "time_out"]))
    def somebody_intervenes(self, how: str) -> None:
        self.hear(getattr(self.play, how)())

    @rule()
    def somebody_resumes(self) -> None:
        self.resume()

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), is_done=st.booleans())
    def a_dead_letter_is_redriven(self, data: st.DataObject, is_done: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.letters)))
        self.play.open[id] = self.letters.pop(id)
        self.redriven.add(id)
        if is_done:
            self.end(id, "done")
            self.deliver(-1)

    @rule(with_snapshot=st.booleans())
    def the_process_dies(self, with_snapshot: bool) -> None:
        if with_snapshot:
            self.play.through_snapshot()
        else:
            self.play.crash()

    @precondition(lambda self: self.gone is None)
    @rule(data=st.data())
    def a_careless_definition_is_deployed(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(["", *self.play.state.steps]))
        plan = changed(self.plan, gone)
        if plan is not None:
            self.play.deploy(plan)
            self.gone = gone

    @precondition(lambda self: self.gone is not None)
    @rule()
    def the_definition_is_put_back(self) -> None:
        self.put_back()

    # How it goes

    @property
    def is_misfit(self) -> bool:
        """A step is gone that has begun, or is new where others have begun that come after it."""
        return bool(self.gone) or (self.gone == "" and self.play.state.mode is Mode.FORWARD)

    def put_back(self) -> None:
        self.play.deploy(self.plan)
        self.gone = None
        self.resume()

    def resume(self) -> None:
        """The dead letters go, as with the runtime."""
        self.hear(self.play.resume())
        self.letters.clear()

    def end(self, id: str, how: str, reason: str = "exhausted") -> None:
        command = self.play.open.pop(id)
        is_undo = type(command) is CompensateStep
        world, name = self.world, command.step
        content: Any
        if how == "done" and is_undo:
            world.has_effect[name] = False
            content = compensated(command, Residue(f"fee of {name}") if name in "ac" else None)
        elif how == "done":
            world.has_effect[name] = True
            content = completed(command, {name: 1})
        else:
            if how in ("unknown with effect", "invalid") and not is_undo:
                world.has_effect[name] = True
            if how == "failed" and reason == "non-retryable" and world.has_effect.get(name):
                reason = "exhausted"  # who says that it can never succeed is right
            if how == "invalid":
                reason = "non-retryable"
            content = self.play.failure(command, how != "failed", reason)
        is_redriven = id in self.redriven
        self.redriven.discard(id)
        if is_redriven:
            world.out_of_hand.add(name)  # unless it can be told in time
        self.results.append(Result(id, command, content, is_redriven))

    def deliver(self, index: int) -> None:
        result = self.results.pop(index)
        if type(result.content) is CommandFailed:
            self.letters[result.id] = result.command
            if result.is_redriven:
                return  # the runtime knows this message by its id
        others = [one for one in self.play.open.values() if one.step == result.command.step]
        others += [one.command for one in self.results if one.command.step == result.command.step]
        turn = self.play.tell(result.content)
        self.told.append(result.content)
        name, world = result.command.step, self.world
        if turn.outcome is Outcome.APPLIED:
            if type(result.content) is StepCompleted:
                world.done = [*(one for one in world.done if one != name), name]
                if not others:
                    world.out_of_hand.discard(name)
                if not world.turned and self.plan.by_name[name].is_pivot:
                    world.pivot_passed = True
            elif type(result.content) is StepCompensated:
                world.undone.append(name)
        elif type(result.content) is StepCompleted:
            is_late = self.play.status.is_over or others or name in world.done
            assert is_late, "what was really done counts"
            world.out_of_hand.add(name)
        self.hear(turn)

    def is_known(self, content: Any) -> bool:
        """What was told already is not wanted once more. (A step in doubt, or given up, is.)"""
        name = content.command.step if type(content) is CommandFailed else content.step
        status = self.play.state.steps.get(name)
        at_work = [one for one in self.play.open.values() if one.step == name]
        waiting = [one for one in self.results if one.command.step == name]
        wanted = {"running", "failed", "unknown", "in doubt", "compensating", "stuck", "seen to"}
        return not at_work and not waiting and str(status) not in wanted

    def hear(self, turn: Any) -> None:
        """Look at what was recorded and sent."""
        events = [self.play.codec.decode(*stored) for stored in turn.events]
        for event in events:
            if type(event) is StepFailed:
                self.heard_failure(event)
            elif type(event) in (CompensationSkipped, CompensationStepStarted):
                self.world.turned.add(event.step)
        for out in turn.outgoing:
            command = self.play.open[out.id]
            if type(command) is PerformStep:
                self.sent_step(out.id, command)
            else:
                self.sent_undo(out.id, command)

    def heard_failure(self, event: StepFailed) -> None:
        name, kept = event.step, self.plan.by_name[event.step]
        if str(event.status) == "in doubt":
            assert kept.undoes_unknown
            assert kept.undo_queue
            assert not self.is_misfit
            self.world.doubtful.add(name)
            self.world.done = [*(one for one in self.world.done if one != name), name]

    def live(self, but: str = "") -> list[Any]:
        """Commands that the saga has sent and not heard of."""
        waiting = [one.command for one in self.results if not one.is_redriven]
        opened = [
            one for id, one in self.play.open.items() if id != but and id not in self.redriven
        ]
        return [one for one in waiting + opened if one.step not in self.doubled]

    def sent_step(self, id: str, command: PerformStep) -> None:
        self.note_doubled(command)
        assert self.before[command.step] <= set(self.world.done)
        assert not self.is_misfit
        names = [one.step for one in self.live(but=id)]
        assert command.step not in names, "two live commands of one step"
        undoing = [one for one in self.live(but=id) if type(one) is CompensateStep]
        assert not undoing, "no step while others are undone"
        if self.play.state.mode is Mode.FORWARD:
            assert not self.world.undone
        assert command.key == f"trip/t/{command.step}"
        assert command.data == self.play.state.data

    def note_doubled(self, command: Any) -> None:
        redriven = [self.play.open[one] for one in self.redriven]
        redriven += [one.command for one in self.results if one.is_redriven]
        if command.step in [one.step for one in redriven]:
            self.doubled.add(command.step)

    def sent_undo(self, id: str, command: CompensateStep) -> None:
        self.note_doubled(command)
        name, world = command.step, self.world
        assert not self.is_misfit
        assert not self.live(but=id), "one at a time, and no step at work"
        assert not world.pivot_passed
        assert not self.plan.forward_only
        assert self.plan.may_be_undone(self.plan.by_name[name])
        assert name in world.done, "nothing is undone that was not done"
        skipped = {n for n, s in self.play.state.steps.items() if str(s) == "skipped"}
        left = [one for one in world.done if one not in world.undone and one not in skipped]
        assert left[-1] == name, "the latest first"
        assert command.key == f"trip/t/{name}/undo"

    # What always holds

    @invariant()
    def nothing_hangs(self) -> None:
        if self.play.status is Status.RUNNING and not self.is_misfit:
            assert self.live() or self.doubled

    @invariant()
    def what_is_stuck_is_named(self) -> None:
        if self.play.status is Status.STUCK and not self.is_misfit:
            assert self.play.why

    @invariant()
    def the_end_is_told_as_it_is(self) -> None:
        play, world = self.play, self.world
        if not play.status.is_over:
            return
        assert not self.live() or play.state.mode is Mode.STOPPED
        if play.status is Status.COMPLETED:
            assert set(world.done) == set(self.plan.by_name)
            assert not world.undone
            self.check_results(play.codec.decode_value(play.detail))
        elif play.state.mode is Mode.STOPPED:
            assert self.plan.forward_only
        else:
            assert play.state.mode is Mode.COMPENSATED
            assert not world.pivot_passed
            self.check_compensated(play.state.steps)

    def check_results(self, data: Trip) -> None:
        """Nobody's result was lost, or made up."""
        for name in self.plan.by_name:
            assert getattr(data, name) == 1

    def check_compensated(self, steps: Mapping[str, Any]) -> None:
        residues = [one.what for one in self.play.state.residues]
        for name, has_effect in self.world.has_effect.items():
            kept = self.plan.by_name[name]
            if not has_effect or name in self.world.out_of_hand | self.doubled:
                continue
            if self.plan.may_be_undone(kept):
                assert not kept.undo_queue, f"{name} has its effect, and is called compensated"
            else:
                assert f"{name} stays done" in residues
        for name in self.world.done:
            kept = self.plan.by_name[name]
            is_undone = name in self.world.undone
            assert is_undone == bool(kept.undo_queue)
            assert str(steps[name]) == ("compensated" if is_undone else "skipped")
            assert (f"fee of {name}" in residues) == (is_undone and name in "ac")
        assert not [name for name, status in steps.items() if str(status) == "unknown"]

    def teardown(self) -> None:
        """From wherever it is, it comes to its end if all goes well from now on."""
        if not hasattr(self, "play"):
            return
        if self.gone is not None:
            self.put_back()
        for _ in range(200):
            if self.results:
                self.deliver(0)
            elif self.play.open:
                self.end(next(iter(self.play.open)), "done")
            elif self.play.status is Status.STUCK:
                self.resume()
            else:
                break
            self.nothing_hangs()
        assert self.play.status.is_over
        self.the_end_is_told_as_it_is()
        assert self.play.begin().outcome is Outcome.FINISHED


def test_any_course_comes_to_its_end_and_tells_it_as_it_is() -> None:
    run_state_machine_as_test(
        AnyCourse,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
