"""The memory of processed messages: a window in turns, at constant cost."""

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


def test_the_first_due_deadline_is_by_time_then_by_age_then_by_name():
    deadlines = {"b": Armed(5, 2), "c": Armed(5, 1), "a": Armed(5, 2), "z": Armed(9, 1)}
    instance = Instance("k", "k", None, deadlines=deadlines, next_due_ms=next_due(deadlines))
    assert instance.due_deadline(4, 9) is None
    assert instance.due_deadline(5, 9) == ("c", Armed(5, 1))
