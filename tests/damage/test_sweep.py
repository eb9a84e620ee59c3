"""A sample of all that can happen to a file: nothing wrong ever passes for right."""

from __future__ import annotations

from tests.corruption_sweep import sweep
from tests.damage.judging import Verdict


def test_damage_is_harmless_healed_or_named_and_concerns_nobody_else(tmp_path):
    done = sweep(tmp_path, sample=110, seed=1)
    assert not done.bad, "\n".join(done.bad)
    assert done.total(Verdict.DETECTED) > 40
    assert done.total(Verdict.HEALED) > 5
