"""Makes a step of a study wait, use up memory, or die at the moment it opens a subject's images.

Tests decide by it when a job is disturbed, without a clock and without a change of the code: this
file lies in the study as workflow/sitecustomize.py, which every Python with that folder on its path
imports as it starts: the steps, not Snakemake.

A disturbance is three files in <study>/disturbances/: NAME.at, the text that is part of the path of
the images; NAME.reached, made by the first attempt that comes there; NAME.go, by which the test
lets it go on, with the megabytes to use up on the way, in that attempt and in every later one. Of
several at one subject each holds up another attempt. Where NAME.kill lies, every attempt dies.
"""

import os
import signal
import sys
import time
from pathlib import Path

DISTURBANCES = Path(__file__)
FOLDER = Path("disturbances")
LONGEST_SECONDS = 300  # a guard against waiting for what never happens


# --- in the test ---------------------------------------------------------------------------------


class Disturbance:
    """One disturbance of a study, at the images of a subject."""

    def __init__(self, study: Path, subject: str):
        self.subject = subject
        folder = study / FOLDER
        folder.mkdir(exist_ok=True)
        self._base = folder / f"{subject}-{len(list(folder.glob('*.at')))}"
        self._base.with_suffix(".at").write_text(f"images/{subject}/")

    @property
    def reached(self) -> bool:
        return self._base.with_suffix(".reached").exists()

    def go_on(self, megabytes: int = 0) -> None:
        """Let the job go on, and every later attempt, after it has used up this much memory."""
        draft = self._base.with_suffix(".draft")
        draft.write_text(str(megabytes))
        draft.replace(self._base.with_suffix(".go"))

    def kill(self) -> None:
        """Let every process that comes there die."""
        self._base.with_suffix(".kill").touch()


# --- in the job ----------------------------------------------------------------------------------


def install() -> None:
    """Watch which files this process opens; without disturbances, do nothing."""
    places = {file.with_suffix(""): file.read_text() for file in FOLDER.glob("*.at")}
    if places:
        sys.addaudithook(lambda event, details: _watch(places, event, details))


def _watch(places: dict[Path, str], event: str, details: tuple) -> None:
    if event == "open" and isinstance(details[0], str | os.PathLike):
        here = sorted(base for base, text in places.items() if text in str(details[0]))
        for base in here:
            del places[base]  # before anything is opened on the way
        _stop_at_one(here)


def _stop_at_one(bases: list[Path]) -> None:
    for base in bases:
        if base.with_suffix(".kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        go = base.with_suffix(".go")
        held_up = _is_first(base)
        while held_up and not go.exists():
            time.sleep(0.05)
        if go.exists():
            _use_up(int(go.read_text()))
        if held_up:
            return


def _is_first(base: Path) -> bool:
    try:
        os.mkdir(base.with_suffix(".reached"))
    except FileExistsError:
        return False
    return True


def _use_up(megabytes: int) -> None:
    used = [b"\1" * (1 << 20) for _ in range(megabytes)]
    if used:
        time.sleep(3)  # where Slurm itself watches the memory it looks every second


if __name__ == "sitecustomize":
    install()
