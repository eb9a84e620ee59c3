"""pykka actors on one asyncio event loop: hundreds of thousands of them, none with a thread.

    class Greeter(Actor):
        async def on_receive(self, name: str) -> str:
            return f"hello {name}"

    greeter = Greeter.start()
    await greeter.ask("Ada", block=False)

Knows pykka and asyncio; must not know sagas, stores or supervision policy. No name that pykka
keeps private is used outside of this package.

Start reading at ``actor.py``; then ``mailbox.py``, ``run_queue.py`` and ``future.py``.
"""

from perdure.actors.actor import Actor
from perdure.actors.future import Future
from perdure.actors.mailbox import Envelope, Mailbox, is_stop
from perdure.actors.run_queue import RunQueue

__all__ = ["Actor", "Envelope", "Future", "Mailbox", "RunQueue", "is_stop"]
