"""The window of next due rows: exact order, exact under changes, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.commit import DeadlineRow, InboxReason, InboxRow
from perdure.core.deadlines import DueQueue

keys = st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(0, 20)),
        st.tuples(st.just("clear"), keys, st.just(0)),
        st.tuples(st.just("pop"), keys, st.integers(0, 20)),
    ),
    max_size=60,
)


def due_queue(page=1_000):
    return DueQueue(lambda row: (row.instance, row.name), page)


@given(steps)
def test_it_fires_what_a_plain_dict_would(changes):
    queue, model = due_queue(), {}
    for number, (what, key, at) in enumerate(changes):
        if what == "set":
            queue.set(DeadlineRow(key[0], key[1], number, at))
            model[key] = at
        elif what == "clear":
            queue.clear(key)
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
    queue = due_queue()
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
    queue = due_queue()
    for at in range(10_000):
        queue.set(DeadlineRow("a", "x", at, 1_000_000 - at))
    assert len(queue._heap) < 200
    assert queue.next_due_ms() == 1_000_000 - 9_999


def test_more_than_two_pages_shrink_to_the_first_page_and_a_horizon():
    queue = due_queue(page=10)
    for at in range(100, 79, -1):
        queue.set(DeadlineRow("a", f"{at}", 1, at))
        assert len(queue) <= 20
    assert len(queue) == 10
    assert queue.horizon == (89, "a", "89")
    queue.set(DeadlineRow("a", "later", 1, 90))
    queue.set(DeadlineRow("a", "sooner", 1, 70))
    found = [row.due_at_ms for _ in range(12) if (row := queue.pop_due(1_000)) is not None]
    assert found == [70, *range(80, 90)]
    assert queue.is_exhausted


@given(steps, st.integers(1, 4))
def test_with_the_store_behind_it_a_small_window_fires_the_same(changes, page):
    """Whatever the window lets go is read again, page by page, when it runs empty."""
    queue = due_queue(page)
    store: dict[tuple[str, str], DeadlineRow] = {}

    def pop(at):
        while True:
            row = queue.pop_due(at)
            if row is not None or not queue.is_exhausted:
                return row
            rows = [store[key] for key in after(queue.horizon)]
            queue.page_loaded(rows[:page], complete=len(rows) < page)

    def after(horizon):
        moments = sorted((row.due_at_ms, *key) for key, row in store.items())
        return [moment[1:] for moment in moments if moment > horizon][:page]

    for number, (what, key, at) in enumerate(changes):
        if what == "set":
            row = store[key] = DeadlineRow(key[0], key[1], number, at)
            queue.set(row)
        elif what == "clear":
            store.pop(key, None)
            queue.clear(key)
        else:
            due = min(
                ((r.due_at_ms, *k) for k, r in store.items() if r.due_at_ms <= at), default=None
            )
            found = pop(at)
            assert (None if found is None else (found.due_at_ms, found.instance, found.name)) == due
            if due:
                del store[due[1:]]
        assert len(queue) <= 2 * page


def test_a_row_without_a_moment_is_not_held():
    queue: DueQueue[InboxRow] = DueQueue(lambda row: (row.instance, row.message_id), 10)
    queue.set(InboxRow("a", "m", InboxReason.MISSING, b"", 0, due_at_ms=5))
    queue.set(InboxRow("a", "m", InboxReason.QUEUED, b"", 0))
    assert len(queue) == 0
    assert queue.next_due_ms() is None
