"""document_processing.py: its steps, and its story with deaths at each point of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import document_processing as example
from document_processing import (
    TEXTS,
    Archive,
    Letter,
    analyse,
    extract,
    summarise,
    upload,
    validate,
    write_letters,
)
from perdure import Job

STEPS = ["upload", "validate", "extract", "analyse", "summarise"]


def job(name: str, letter: Letter) -> Job:
    return Job(
        key=f"{letter.letter_id}/{name}",
        queue=f"document-processing.{name}",
        instance_id=letter.letter_id,
    )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """One in which nothing fails."""
    monkeypatch.setattr(example, "FAILING", 0)
    return Archive(tmp_path)


def test_steps_may_be_repeated(archive: Archive, tmp_path: Path) -> None:
    given = write_letters(tmp_path)[0]
    for _ in range(2):
        found = upload(given, job("upload", given), archive)
        assert found == {"size": len(TEXTS["l-1"].encode())}
        assert validate(given, job("validate", given), archive) == {"subject": "The lamps"}
        assert extract(given, job("extract", given), archive) is None
        analysed = analyse(given, job("analyse", given), archive)
        assert analysed == {"words": 29, "keywords": ("lamps", "broken")}
        letter = Letter("l-1", "", subject="The lamps", keywords=("lamps", "broken"))
        best = "The lamps that you sent were all broken."
        assert summarise(letter, job("summarise", given), archive) == {"summary": best}
    assert archive.path(given, "summary").read_text() == f"The lamps: {best}\n"
    assert json.loads(archive.path(given, "json").read_text())["lamps"] == 3
    assert not list(tmp_path.glob("*.part"))


def test_a_damaged_letter_is_not_valid_and_says_so_in_the_log(
    archive: Archive, tmp_path: Path
) -> None:
    damaged = write_letters(tmp_path)[3]
    upload(damaged, job("upload", damaged), archive)
    with pytest.raises(UnicodeDecodeError):
        validate(damaged, job("validate", damaged), archive)
    assert archive.runs()[-1] == ["l-4", "validate", "failed"]


def test_the_same_attempts_fail_in_every_process(tmp_path: Path) -> None:
    def failing(seed: int) -> list[int]:
        found = []
        for attempt in range(40):
            tried = Job(key="k", attempt=attempt, queue="d.upload", instance_id="l")
            try:
                with Archive(tmp_path, seed).run(tried):
                    pass
            except ConnectionError:
                found.append(attempt)
        return found

    assert failing(1) == failing(1) != failing(2)
    assert 4 <= len(failing(1)) <= 12


def story(directory: Path, *options: str) -> str:
    ended = subprocess.run(
        [sys.executable, str(example.__file__), "--directory", str(directory), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def summaries(directory: Path) -> list[str]:
    return [(directory / f"{letter_id}.summary").read_text() for letter_id in TEXTS]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("undisturbed")
    assert "exit code 0" in story(directory, "--dies-at", "")
    return summaries(directory)


@pytest.mark.parametrize(
    ("name", "end"),
    [*((name, "begun") for name in STEPS), ("extract", "done"), ("analyse", "done")],
)
def test_after_a_death_the_letter_goes_on_at_that_step(
    tmp_path: Path, undisturbed: list[str], name: str, end: str
) -> None:
    """One that dies when the step is done, and nobody has heard of it, has to repeat that one."""
    told = story(tmp_path, "--dies-at", f"l-2 {name} {end}")
    assert "exit code -9" in told
    runs = Archive(tmp_path).runs()
    done = Counter((letter, step) for letter, step, what in runs if what == "done")
    assert set(done) == {(letter, step) for letter in TEXTS for step in STEPS}
    twice = {("l-2", name)} if end == "done" else set()
    assert {run for run, count in done.items() if count > 1} == twice
    assert f"Steps that were done twice: {len(twice)}" in told
    assert summaries(tmp_path) == undisturbed


def test_told_again_over_the_same_files_nothing_is_done_again(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    story(tmp_path)
    first = Archive(tmp_path).runs()
    assert "exit code 0" in story(tmp_path)
    assert Archive(tmp_path).runs() == first
    assert summaries(tmp_path) == undisturbed
