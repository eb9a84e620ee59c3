"""A runtime that owns a whole PostgreSQL database takes its mail, too."""

from __future__ import annotations

import asyncio

from perdure import Runtime, Settings
from perdure.codec.journal import JournalCodec
from perdure.codec.mail import Carried, pack_carried
from perdure.store.mail import MailKind, MailRow
from perdure.store.postgres_database import Database
from perdure.store.postgres_mail import PostgresMail
from tests.runtime.support import quickly, view_of
from tests.sagas import Added, Ledger, Opened


def rows_for(runtime: Runtime, *ids: str) -> list[MailRow]:
    """Told letters, as a user's own transaction leaves them."""
    codec, routing = runtime._blueprint.codec, runtime._blueprint.routing
    found = []
    for id_ in ids:
        for n in range(3):
            content = Added(id_, n) if n else Opened(id_)
            message = routing.message(codec, content, f"{id_}-{n}", lambda: "", 0)
            delivery = routing.delivery_to(routing.definition(Ledger), id_, message)
            waiting = JournalCodec(codec).encode_waiting(message, delivery.kind, delivery.strict)
            body = pack_carried(Carried(waiting))
            found.append(MailRow(delivery.key, f"{id_}-{n}", MailKind.MESSAGE, body, "", 0))
    return found


@quickly
async def test_mail_is_taken_at_the_start_and_while_it_runs(postgres: str) -> None:
    settings = Settings(control_socket=False)
    database = Database(postgres)
    await database.open()
    mail = PostgresMail(database)
    try:
        put = await mail.put(rows_for(Runtime(postgres, [Ledger]), "before"))
        async with Runtime(postgres, [Ledger], settings) as runtime:
            put += await mail.put(rows_for(runtime, "while"))
            while await mail.present(put):  # noqa: ASYNC110 - no event tells that rows are gone
                await asyncio.sleep(0.01)
            for id_ in ("before", "while"):
                view = await view_of(runtime, runtime.ref(Ledger, id_))
                assert view.state.items == (1, 2)
            put = await mail.put(rows_for(runtime, *(f"late-{n}" for n in range(50))))
        async with Runtime(postgres, [Ledger], settings) as runtime:
            while await mail.present(put):  # noqa: ASYNC110 - no event tells that rows are gone
                await asyncio.sleep(0.01)
            for n in range(50):
                view = await view_of(runtime, runtime.ref(Ledger, f"late-{n}"))
                assert (view.state.items, view.sequence_nr) == ((1, 2), 3)
    finally:
        await database.close()
