"""What the parts of a runtime share, made of its blueprint when it starts.

Next to read: ``services.py``; ``running.py``, which makes the parts.
"""

from __future__ import annotations

from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.outbox import context_packer
from perdure.core.family import own_headers
from perdure.core.outcome import Encoder
from perdure.core.sharing import Sharing
from perdure.messages import Message, Metadata
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.ids import positions
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.services import Services
from perdure.runtime.watching.observing import BatchWatch
from perdure.store.group_commit import GroupCommit

__all__ = ["services_of"]


def services_of(blueprint: Blueprint, epoch: int) -> Services:
    """The services of a runtime that starts under this epoch of the store."""
    store, settings, codec = blueprint.store, blueprint.settings, blueprint.codec
    clock, observing, tracing = blueprint.clock, blueprint.observing, blueprint.tracing
    return Services(
        store,
        clock,
        settings,
        codec,
        JournalCodec(codec),
        _encoder_of(codec, blueprint.outbound, settings.turn_bytes_max),
        GroupCommit(store, settings.batch_max, BatchWatch(observing, clock)),
        blueprint.new_id,
        epoch,
        positions(epoch),
        blueprint.random,
        observing,
        None if tracing is None else tracing.start(clock),
        blueprint.elsewhere,
        blueprint.permits,
    )


def _encoder_of(codec: Codec, outbound: Outbound, turn_bytes_max: int) -> Encoder:
    """How the turns of this runtime encode and address what they send."""

    pack = context_packer()  # turns are taken on one loop

    def context(message: Message, metadata: Metadata) -> bytes:
        headers = own_headers(message.headers)
        return pack(message.correlation_id, message.message_id, headers)

    return Encoder(
        codec.encode,
        codec.encode_value,
        outbound.address,
        outbound.audience,
        context,
        Sharing().may_share,
        turn_bytes_max,
    )
