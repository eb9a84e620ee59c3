"""A clock that differs from the database's is told of, once, while it differs."""

from __future__ import annotations

import logging

from perdure.cluster.skew import Skew


def test_it_warns_when_it_begins_and_not_with_every_beat(caplog):
    skew = Skew(1.0)
    with caplog.at_level(logging.WARNING, logger="perdure.cluster"):
        for seen_s in (0.9, -1.5, -1.6, 0.2, 7.0):
            skew.seen(seen_s)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "this machine's clock is 1.5 s behind the database's",
        "this machine's clock is 7.0 s ahead of the database's",
    ]


def test_it_is_a_trouble_for_as_long_as_it_lasts():
    skew = Skew(1.0)
    assert skew.trouble() == ()
    skew.seen(5.0)
    [trouble] = skew.trouble()
    assert "5.0 s ahead of the database's" in trouble.error
    skew.seen(0.0)
    assert skew.trouble() == ()
