"""Forks lives: a process that has imported everything, and has neither a thread nor a loop.

    python -m tests.survival.zygote        a JSON object per line in, one per line out

A start of Python and its imports cost ten times what the first turns of a runtime do; a fork does
not pay for them. ``kill_after_s`` sends the life ``signal`` (SIGKILL) from outside at that moment.
Answers ``{"status": …}``: minus the signal, or the exit code; 99 for a life that hung.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback

from tests.survival.life import Life, live

LIMIT_S = 60.0


def main() -> None:
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        kill_after_s = wanted.pop("kill_after_s", None)
        sent = wanted.pop("signal", signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until a life listens to it
        pid = os.fork()
        if not pid:
            born(Life(**wanted))
        print(json.dumps({"status": ended(pid, kill_after_s, sent)}), flush=True)


def born(life: Life) -> None:
    code = 1
    try:
        os.close(0)
        live(life)
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
