"""Limits that make no sense are refused when they are set."""

import math
from datetime import timedelta

import pytest

from perdure import Settings
from perdure.errors import DefinitionError


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ({"mailbox_max": 0}, "a whole number above zero"),
        ({"mailbox_max": 1.5}, "a whole number above zero"),
        ({"batch_max": True}, "a whole number above zero"),
        ({"idle_after_s": 0}, "a number of seconds above zero"),
        ({"idle_after_s": timedelta(1)}, "a number of seconds above zero"),
        ({"idle_after_s": math.nan}, "a number of seconds above zero"),
        ({"accept_timeout_s": None}, "a number of seconds above zero"),
        ({"snapshot_every": "100"}, "a whole number above zero"),
        ({"freeze_residents": 1}, "True or False"),
    ],
    ids=str,
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, object], wanted: str) -> None:
    with pytest.raises(DefinitionError, match=f"{next(iter(wrong))} is .*; give {wanted}$"):
        Settings(**wrong)  # type: ignore[arg-type]


def test_limits_that_make_sense_are_taken() -> None:
    settings = Settings(idle_after_s=None, accept_timeout_s=1, freeze_residents=True)
    assert settings.accept_timeout_s == 1
