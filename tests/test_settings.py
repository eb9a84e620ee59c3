"""Limits that make no sense are refused when they are set."""

import pytest

from perdure import Settings
from perdure.errors import DefinitionError


@pytest.mark.parametrize(
    "wrong",
    [
        {"mailbox_max": 0},
        {"mailbox_max": 1.5},
        {"batch_max": True},
        {"idle_after_s": 0},
        {"accept_timeout_s": None},
        {"snapshot_every": "100"},
        {"freeze_residents": 1},
    ],
    ids=str,
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def test_limits_that_make_sense_are_taken() -> None:
    settings = Settings(idle_after_s=None, accept_timeout_s=1, freeze_residents=True)
    assert settings.accept_timeout_s == 1
