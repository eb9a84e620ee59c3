"""The periods of a cluster. Units come last in the names. Next to read: ``host.py``."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.errors import DefinitionError

__all__ = ["ClusterSettings", "checked_settings"]


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How the processes of a cluster watch each other.

        Cluster("postgresql+asyncpg://…", [Order], cluster=ClusterSettings(lease_s=20))

    ``beat_s``: a process tells the database so often that it is alive. ``lease_s``: one that is
    silent for longer has lost its shards to whoever takes them. ``absent_s``: so long suffices if
    the database sees its connection closed, too, as after ``kill -9``. ``poll_s``: so often free
    shards are looked for, and mail that no doorbell told of. ``skew_s``: a clock that differs from
    the database's by more is reported.

    ``connections``: so many a process has to the database at most, beside the one it beats on.

    ``takes_shards=False``: this process sends, asks and looks, and runs no instance itself.
    """

    beat_s: float = 0.5
    lease_s: float = 10.0
    absent_s: float = 1.0
    poll_s: float = 0.5
    skew_s: float = 1.0
    connections: int = 8
    takes_shards: bool = True

    def __post_init__(self) -> None:
        for name in ("beat_s", "lease_s", "absent_s", "poll_s", "skew_s"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 3600:
                raise DefinitionError(
                    f"setting {name} is {value!r}",
                    remedy="give a number of seconds above zero, and below an hour",
                )
        if type(self.connections) is not int or self.connections < 1:
            raise DefinitionError(
                f"setting connections is {self.connections!r}",
                remedy="give a whole number above zero",
            )
        if self.lease_s < 3 * self.beat_s:
            raise DefinitionError(
                f"lease_s is {self.lease_s} and beat_s {self.beat_s}: a single late beat would "
                f"cost a process its shards",
                remedy="give a lease of at least three beats",
            )
        if self.absent_s < 2 * self.beat_s:
            raise DefinitionError(
                f"absent_s is {self.absent_s} and beat_s {self.beat_s}",
                remedy="give at least two beats: so long a lost connection takes to be made again",
            )


def checked_settings(settings: object) -> ClusterSettings:
    """The settings, or the default ones. Raises DefinitionError for anything else."""
    if settings is None:
        return ClusterSettings()
    if isinstance(settings, ClusterSettings):
        return settings
    raise DefinitionError(
        f"cluster= is a {type(settings).__name__}",
        remedy="give ClusterSettings(…); the limits of the runtime are Settings(…), the third "
        "argument",
    )
