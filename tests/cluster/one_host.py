"""A real Slurm of two nodes on this one host, from Debian's packages; made for tests, thrown away.

As root, python tests/cluster/one_host.py start (or stop); slurmctld and slurmd then run in the
background, with their state and logs in FOLDER. Nothing of a Slurm that is configured here already
is touched. No accounting, as on the simplest of clusters: what works here works without sacct.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from slurm_jobs import ask, end, processes_of, watchers_of  # noqa: E402
from slurm_settings import NODES, others_settings, remove_settings, write_settings  # noqa: E402
from waiting import wait_until  # noqa: E402

FOLDER = Path("/tmp/paravert-one-host")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"


def obstacle() -> str | None:
    """Return why no Slurm can be started here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: {PACKAGES})"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    others = others_settings()
    return f"{others} belongs to another Slurm" if others else None


class OneHost:
    """The daemons of one Slurm, and what tests do to them."""

    def __init__(self, folder: Path = FOLDER):
        self.folder = folder

    def start(self) -> None:
        """Configure Slurm, start every daemon, and wait until both nodes take jobs."""
        reason = obstacle()
        if reason:
            raise RuntimeError(reason)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        write_settings(self.folder)
        self._start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)

    def stop(self) -> None:
        """Cancel every job, end every daemon that was started here, remove the settings."""
        if self._pid("slurmctld"):
            subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], check=False)
        for node in NODES:
            self.kill_node(node)
        self.stop_controller()
        end(self._pid("munged"), signal.SIGTERM)
        remove_settings()

    def start_controller(self) -> None:
        """Start the controller, which goes on with the jobs that it knew."""
        subprocess.run(["slurmctld", "-i"], check=True)

    def stop_controller(self) -> None:
        """End the controller in good order, as for its update; nodes and their jobs go on."""
        end(self._pid("slurmctld"), signal.SIGTERM)

    def start_node(self, node: str) -> None:
        """Start a node's daemon, and wait until it takes jobs."""
        subprocess.run(["slurmd", "-N", node], check=True)
        wait_until(lambda: self.node_state(node) in ("idle", "mixed"), f"{node} to take jobs")

    def kill_node(self, node: str) -> None:
        """Kill a node as a loss of power would: the daemon and all that runs there, at once."""
        running = self._numbers_on(node)
        end(self._pid(f"slurmd-{node}"), signal.SIGKILL)
        for pid in (pid for job in running for pid in (*watchers_of(job), *processes_of(job))):
            end(pid, signal.SIGKILL)

    def node_state(self, node: str) -> str:
        """Return what the controller thinks of a node: idle, mixed, allocated, down ..."""
        return ask("sinfo", "--noheader", f"--nodes={node}", "--format=%T").split("\n")[0].strip()

    def _start_munge(self) -> None:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        for folder, mode in (("/run/munge", "755"), ("/var/lib/munge", "700")):
            owner = ["-o", "munge", "-g", "munge"]
            subprocess.run(["install", "-d", *owner, "-m", mode, folder], check=True)
        options = [f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"]
        subprocess.run(["munged", "--force", *options], check=True)

    def _pid(self, name: str) -> int | None:
        file = self.folder / f"{name}.pid"
        pid = int(file.read_text().strip() or 0) if file.exists() else 0
        alive = pid and psutil.pid_exists(pid)
        return pid if alive and psutil.Process(pid).name() == name.split("-")[0] else None

    def _numbers_on(self, node: str) -> list[str]:
        if not self._pid("slurmctld"):
            return []
        listed = ask("squeue", "--noheader", f"--nodelist={node}", "--format=%i")
        return listed.split()


if __name__ == "__main__":
    {"start": OneHost().start, "stop": OneHost().stop}[sys.argv[1]]()
