"""Letters are uploaded, validated, extracted, analysed, summarised: from checkpoint to checkpoint.

    python examples/document_processing.py                      # in a temporary directory
    python examples/document_processing.py --directory letters  # keeps all files

A process works through four letters and is killed with ``kill -9`` in the midst of a step. Another
one goes on over the same file where the last checkpoint is. One step in five fails, and is tried
again. The fourth letter is damaged: its workflow is *stuck* at the step that cannot read it, until
somebody has put a good copy in its place.

Each step writes a file, whole or not at all, so that it may be repeated; ``runs.log`` says which
step began, and how it ended. From that it prints how often each step of each letter has run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path
from typing import Any

from perdure import Fixed, Job, Runtime, Workflow, message, step
from perdure.errors import SagaStuck

FAILING = 0.2
"""The share of attempts that fails; which ones, ``--seed`` says."""


@message
class Letter:
    """What a workflow begins with; the later fields are what its steps have found out."""

    letter_id: str
    file: str
    size: int = 0
    subject: str = ""
    words: int = 0
    keywords: tuple[str, ...] = ()
    summary: str = ""


# What the steps work on: a directory, and a log of what was done there


class Archive:
    """Letters in all stages, a file each. ``dies_at``: the line of the log that is the last one."""

    def __init__(self, directory: Path, seed: int = 3, dies_at: str = "") -> None:
        self._directory = directory
        self._seed = seed
        self._dies_at = dies_at

    def path(self, letter: Letter, kind: str) -> Path:
        return self._directory / f"{letter.letter_id}.{kind}"

    def write(self, path: Path, content: bytes) -> None:
        """Whole or not at all, and the same when it is written again."""
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)

    @contextmanager
    def run(self, job: Job) -> Iterator[None]:
        """A run of a step: writes down that it began, and how it ended. Some fail."""
        run = f"{job.instance_id} {job.queue.rpartition('.')[2]}"
        self._log(f"{run} begun")
        try:
            if random.Random(f"{self._seed} {job.key} {job.attempt}").random() < FAILING:
                raise ConnectionError("the archive does not answer")
            yield
        except Exception:
            self._log(f"{run} failed")
            raise
        self._log(f"{run} done")

    def _log(self, line: str) -> None:
        with (self._directory / "runs.log").open("a") as log:
            log.write(f"{line}\n")
        if line == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def runs(self) -> list[list[str]]:
        """Letter, step, and "begun", "failed" or "done", in the order in which that was."""
        return [line.split() for line in (self._directory / "runs.log").read_text().splitlines()]


# The steps. Each returns the fields of the letter that it has found out.

AGAIN = Fixed(0.05, max_attempts=8)


@step(retry=AGAIN)
def upload(letter: Letter, job: Job, archive: Archive) -> dict[str, Any]:
    with archive.run(job):
        content = Path(letter.file).read_bytes()
        archive.write(archive.path(letter, "eml"), content)
        return {"size": len(content)}


@step(retry=AGAIN, non_retryable=(UnicodeDecodeError,))
def validate(letter: Letter, job: Job, archive: Archive) -> dict[str, Any]:
    with archive.run(job):
        text = archive.path(letter, "eml").read_text("utf-8")  # a damaged one is no UTF-8
        return {"subject": message_from_string(text)["Subject"] or "without a subject"}


@step(retry=AGAIN)
def extract(letter: Letter, job: Job, archive: Archive) -> None:
    with archive.run(job):
        body = message_from_string(archive.path(letter, "eml").read_text("utf-8")).get_payload()
        archive.write(archive.path(letter, "txt"), str(body).encode())


@step(retry=AGAIN)
def analyse(letter: Letter, job: Job, archive: Archive) -> dict[str, Any]:
    with archive.run(job):
        words = re.findall(r"\w+", archive.path(letter, "txt").read_text().lower())
        counts = Counter(word for word in words if len(word) > 4)
        archive.write(archive.path(letter, "json"), json.dumps(counts, indent=1).encode())
        keywords = tuple(word for word, count in counts.most_common(3) if count > 1)
        return {"words": len(words), "keywords": keywords}


@step(retry=AGAIN)
def summarise(letter: Letter, job: Job, archive: Archive) -> dict[str, Any]:
    with archive.run(job):
        text = " ".join(archive.path(letter, "txt").read_text().split())
        sentences = re.split(r"(?<=\.) ", text)
        best = max(sentences, key=lambda one: sum(word in one.lower() for word in letter.keywords))
        archive.write(archive.path(letter, "summary"), f"{letter.subject}: {best}\n".encode())
        return {"summary": best}


letters = Workflow(
    "document-processing",
    Letter,
    by="letter_id",
    steps=[upload, validate, extract, analyse, summarise],
)


# The story

TEXTS = {
    "l-1": """\
Subject: The lamps

The lamps that you sent were all broken. We have no use for broken lamps, however cheap they are.
Please send new lamps, or give us our money back.
""",
    "l-2": """\
Subject: Our meeting

On Monday nobody was here. Please move the meeting to Thursday, and let everybody know. There is no
room for a meeting on Monday in any case.
""",
    "l-3": """\
Subject: Your invoice

The invoice is twice as high as it was agreed. It also lists a piano. Nobody here has ever ordered a
piano, so please take the piano off the invoice and send another invoice.
""",
    "l-4": """\
Subject: Good news

The garden is ready. There are roses in the garden, and apples.
""",
}


def write_letters(directory: Path) -> list[Letter]:
    """The files of four letters, the last one damaged."""
    found = []
    for letter_id, text in TEXTS.items():
        path = directory / f"letter {letter_id}"
        path.write_bytes(text.encode() if letter_id != "l-4" else b"Subject: \xff\xff\n")
        found.append(Letter(letter_id, str(path)))
    return found


def letters_runtime(directory: Path, archive: Archive) -> Runtime:
    url = f"sqlite+aiosqlite:///{directory / 'letters.db'}"
    return Runtime(url, [letters], resources={"archive": archive})


async def work(runtime: Runtime, given: list[Letter]) -> None:
    """One letter after another; those that are known are not begun anew."""
    for letter in given:
        await runtime.publish(letter, message_id=f"{letter.letter_id}/given")
        await print_end(runtime, letter.letter_id)


async def print_end(runtime: Runtime, letter_id: str) -> None:
    try:
        done: Letter = await runtime.result(runtime.ref(letters, letter_id))
        print(
            f"  {letter_id} completed: {done.words} words, {', '.join(done.keywords)}", flush=True
        )
    except SagaStuck as stuck:
        print(f"  {letter_id} stuck: {stuck.problem}", flush=True)


async def first_process(directory: Path, archive: Archive) -> None:
    async with letters_runtime(directory, archive) as runtime:
        await work(runtime, write_letters(directory))


async def second_process(directory: Path, archive: Archive) -> None:
    async with letters_runtime(directory, archive) as runtime:
        print("\nThe second process goes on where the last checkpoint is:")
        await work(runtime, write_letters(directory))
        print("\nA good copy is put in the place of the damaged letter:")
        async for seen in runtime.instances(letters, status="stuck"):
            print(f"  {seen.correlation_id} has done {', '.join(seen.state.completed)}")
            archive.path(seen.state.data, "eml").write_text(TEXTS[seen.correlation_id])
            await runtime.resume(runtime.ref_to(seen))
            await print_end(runtime, seen.correlation_id)


def print_runs(archive: Archive) -> None:
    counts = Counter((letter, name, what) for letter, name, what in archive.runs())
    print("\nHow often each step has run:")
    for letter_id in TEXTS:
        told = []
        for name in ("upload", "validate", "extract", "analyse", "summarise"):
            begun, failed, done = (
                counts[letter_id, name, what] for what in ("begun", "failed", "done")
            )
            ends = {"failed": failed, "cut off": begun - failed - done}
            others = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
            told.append(f"{name} {begun}{f' ({others})' if others else ''}")
        print(f"  {letter_id} {', '.join(told)}")
    twice = [run for run, count in counts.items() if run[2] == "done" and count > 1]
    print(f"Steps that were done twice: {len(twice)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Letters, from checkpoint to checkpoint.")
    parser.add_argument("--directory", type=Path, help="for the files (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=3, help="which attempts fail")
    parser.add_argument("--dies-at", default="l-2 extract begun", metavar="LINE")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        if options.first:
            asyncio.run(first_process(directory, Archive(directory, options.seed, options.dies_at)))
            return
        print("The first process:", flush=True)
        given = ["--directory", directory, "--seed", options.seed, "--dies-at", options.dies_at]
        command = [sys.executable, __file__, "--first", *map(str, given)]
        print(f"  exit code {subprocess.run(command, check=False).returncode}")
        archive = Archive(directory, options.seed)
        asyncio.run(second_process(directory, archive))
        print_runs(archive)
        print(
            "\nThe summary of l-3:", archive.path(Letter("l-3", ""), "summary").read_text(), end=""
        )


if __name__ == "__main__":
    main()
