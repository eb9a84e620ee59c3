"""Hostile bytes at every entrance, for as long as one likes, with a witness that nothing runs.

    python -m tests.fuzz --seconds 600 --seed 1

In a process of its own, whose audit hook ends it if decoding opens a file, imports a module,
compiles or executes code; with the memory of each input measured. Prints what it tried and one line
of JSON; fails at the first error that is not one of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import tracemalloc
from dataclasses import dataclass

from tests.codec.hostile import attempt, inputs, samples

__all__ = ["Fuzzed", "fuzz", "watch_for_code"]

FORBIDDEN = {
    "exec", "compile", "import", "open", "os.system", "subprocess.Popen", "pickle.find_class",
    "marshal.loads", "socket.connect", "ctypes.dlopen",
}  # fmt: skip
BYTES_PER_BYTE = 100
"""An empty list of msgpack is one byte, and 72 as an object of Python."""
ROOM_BYTES = 1_000_000


@dataclass
class Fuzzed:
    """How much was tried, and what was wrong."""

    inputs: int = 0
    largest_peak: int = 0
    slowest_ms: float = 0.0
    wrong: str = ""


def watch_for_code() -> None:
    """From here on, whatever runs or opens anything ends the process. For good."""

    def hook(event: str, arguments: object) -> None:
        if event in FORBIDDEN:
            os.write(2, f"decoding led to {event} {arguments!r:.200}\n".encode())
            os._exit(3)

    sys.addaudithook(hook)


def measured(data: bytes) -> tuple[dict[str, str], int]:
    """What was wrong with reading it, and the most memory that took."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    wrong = attempt(data)
    return wrong, tracemalloc.get_traced_memory()[1] - before


def fuzz(count: int | None, seconds: float | None, seed: int) -> Fuzzed:
    """Try so many inputs, or for so long."""
    done = Fuzzed()
    until_s = None if seconds is None else time.monotonic() + seconds
    tracemalloc.start()
    for data in inputs(random.Random(seed)):
        if done.inputs == count or (until_s is not None and time.monotonic() > until_s):
            break
        began = time.perf_counter()
        wrong, peak = measured(data)
        done.slowest_ms = max(done.slowest_ms, (time.perf_counter() - began) * 1000)
        limit = BYTES_PER_BYTE * len(data) + ROOM_BYTES
        if peak > limit:  # once in a while the interpreter's own table of names grows
            wrong, peak = measured(data)
        done.largest_peak = max(done.largest_peak, peak)
        done.inputs += 1
        if peak > limit:
            wrong["memory"] = f"{peak} bytes for {len(data)}"
        if wrong:
            done.wrong = f"{wrong} for {data!r}"
            break
    tracemalloc.stop()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seconds = 60.0 if given.seconds is None and given.count is None else given.seconds
    for data in samples():
        attempt(data)  # what is made once, such as converters, is made before anybody watches
    for data, _ in zip(inputs(random.Random(7)), range(500), strict=False):
        attempt(data)
    watch_for_code()
    done = fuzz(given.count, seconds, given.seed)
    print(json.dumps({"seed": given.seed, **vars(done)}))
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
