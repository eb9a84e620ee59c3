"""Who leaves memory: least recently used first, for idleness or surplus."""

from perdure.core.passivation import PassivationPolicy


def test_the_idle_ones_are_due_in_the_order_of_their_last_use():
    policy = PassivationPolicy(idle_after_s=10, residents_max=100)
    for at, key in enumerate("abc"):
        policy.touched(key, at)
    policy.touched("a", 5)
    assert policy.next_idle_s() == 11
    assert policy.due(10.9) == []
    assert policy.due(12) == ["b", "c"]
    assert policy.due(15) == ["b", "c", "a"]


def test_the_surplus_is_due_at_once():
    policy = PassivationPolicy(idle_after_s=None, residents_max=2)
    for at, key in enumerate("abcd"):
        policy.touched(key, at)
    assert policy.due(4) == ["a", "b"]
    policy.forgotten("a")
    assert policy.due(4) == ["b"]
    assert policy.next_idle_s() is None


def test_one_look_examines_a_bounded_number():
    policy = PassivationPolicy(idle_after_s=1, residents_max=1)
    for number in range(1_000):
        policy.touched(str(number), 0)
    assert len(policy.due(100)) == 64


def test_whoever_is_next_is_due_at_that_very_moment():
    for tenth in range(1, 2_000):
        policy = PassivationPolicy(idle_after_s=0.3, residents_max=100)
        policy.touched("a", tenth / 10)
        next_s = policy.next_idle_s()
        assert next_s is not None
        assert policy.due(next_s) == ["a"]
