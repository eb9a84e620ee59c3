"""The memory of processed messages: a window in turns, at constant cost."""

from perdure.core.commit import DeadlineRow
from perdure.core.deadlines import DueQueue
from perdure.core.instance import Armed, Instance, ProcessedMessages, next_due


def test_at_least_the_window_is_remembered_and_at_most_twice_that():
    known = ProcessedMessages(window=10)
    for number in range(1, 101):
        known.add(f"m-{number}", number)
        for recent in range(max(1, number - 9), number + 1):
            assert known.turn_of(f"m-{recent}") == recent
        assert len(known.items(number)) <= 20
    assert known.turn_of("m-1") is None


def test_items_are_oldest_first_and_only_up_to_a_turn():
    known = ProcessedMessages(window=3)
    for number in range(1, 6):
        known.add(f"m-{number}", number)
    assert known.items(4) == [(f"m-{n}", n) for n in range(1, 5)]


def test_due_deadlines_come_by_time_then_by_name_as_the_timer_fires_them():
    deadlines = {"b": Armed(5, 1), "c": Armed(5, 1), "a": Armed(5, 2), "z": Armed(4, 3)}
    instance = Instance("k", "k", None, deadlines=deadlines, next_due_ms=next_due(deadlines))
    assert instance.due_deadlines(3, 9) == []
    assert [name for name, _ in instance.due_deadlines(4, 9)] == ["z"]
    assert instance.due_deadlines(5, 2)[0] == ("a", Armed(5, 2))
    assert instance.due_deadlines(5, 2, lambda name, armed: name == "a")[0] == ("b", Armed(5, 1))
    queue: DueQueue[DeadlineRow] = DueQueue(lambda row: (row.instance, row.name), 10)
    for name, armed in deadlines.items():
        queue.set(DeadlineRow("k", name, armed.sequence_nr, armed.due_at_ms))
    fired = [row.name for _ in deadlines if (row := queue.pop_due(9)) is not None]
    taken = [name for name, _ in instance.due_deadlines(9, 9)]
    assert taken == fired == ["z", "a", "b", "c"]
