"""Forks lives: a process that has imported everything, and has neither a thread nor a loop.

    python -m tests.survival.zygote        a JSON object per line in, one per line out

A start of Python and its imports cost ten times what the first turns of a runtime do; a fork does
not pay for them. ``kill_after_s`` sends the life ``signal`` (SIGKILL) from outside so long after
its birth, or, with ``when_ready``, after its runtime has started. Answers ``{"status": …}``: minus
the signal, or the exit code; 99 for a life that hung.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback

from tests.survival.ledger import Outside
from tests.survival.life import Life, live

LIMIT_S = 60.0


def main() -> None:
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        kill_after_s = wanted.pop("kill_after_s", None)
        when_ready = wanted.pop("when_ready", False)
        sent = wanted.pop("signal", signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until a life listens to it
        outside = Outside(wanted["outside"])  # so early that one that dies at once has an end
        is_ready, tell = os.pipe()
        pid = os.fork()
        if not pid:
            born(Life(**wanted), outside, tell)
        outside.close()
        os.close(tell)
        if when_ready:
            os.read(is_ready, 1)  # or nothing, if it has ended before
        print(json.dumps({"status": ended(pid, kill_after_s, sent)}), flush=True)
        os.close(is_ready)


def born(life: Life, outside: Outside, tell: int) -> None:
    code = 1
    try:
        os.close(0)
        live(life, outside, lambda: os.close(tell))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int, kill_after_s: float | None, sent: int) -> int:
    """How the child ended."""
    begun = time.monotonic()
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, sent)  # it is ours, and nobody has waited for it: the id is still its own
    while time.monotonic() - begun < LIMIT_S:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 99


if __name__ == "__main__":
    main()
