"""The window of next deadlines: exact order, exact under changes."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.commit import DeadlineRow
from perdure.core.deadlines import DeadlineQueue

keys = st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(0, 20)),
        st.tuples(st.just("clear"), keys, st.just(0)),
        st.tuples(st.just("pop"), keys, st.integers(0, 20)),
    ),
    max_size=60,
)


@given(steps)
def test_it_fires_what_a_plain_dict_would(changes):
    queue, model = DeadlineQueue(), {}
    for number, (what, key, at) in enumerate(changes):
        if what == "set":
            queue.set(DeadlineRow(key[0], key[1], number, at))
            model[key] = at
        elif what == "clear":
            queue.clear(*key)
            model.pop(key, None)
        else:
            due = min(((when, *key) for key, when in model.items() if when <= at), default=None)
            found = queue.pop_due(at)
            assert (None if found is None else (found.due_at_ms, found.instance, found.name)) == due
            if due:
                del model[due[1:]]
        assert queue.next_due_ms() == min(model.values(), default=None)
        assert len(queue) == len(model)


def test_beyond_the_horizon_it_keeps_nothing():
    queue = DeadlineQueue()
    queue.page_loaded([DeadlineRow("a", "x", 1, 10), DeadlineRow("b", "x", 1, 20)], complete=False)
    queue.set(DeadlineRow("c", "x", 1, 30))
    queue.set(DeadlineRow("a", "x", 2, 40))  # moved out of the window
    assert len(queue) == 1
    popped = queue.pop_due(100)
    assert popped is not None
    assert popped.instance == "b"
    assert queue.is_exhausted
    assert queue.horizon == (20, "b", "x")
    queue.page_loaded([DeadlineRow("c", "x", 1, 30)], complete=True)
    popped = queue.pop_due(100)
    assert popped is not None
    assert popped.instance == "c"
    assert not queue.is_exhausted


def test_replacing_over_and_over_does_not_grow_the_heap():
    queue = DeadlineQueue()
    for at in range(10_000):
        queue.set(DeadlineRow("a", "x", at, 1_000_000 - at))
    assert len(queue._heap) < 200
    assert queue.next_due_ms() == 1_000_000 - 9_999
