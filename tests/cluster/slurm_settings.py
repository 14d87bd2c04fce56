"""The settings of a Slurm of two nodes on one host, without accounting, as small clusters have it."""

import os
import socket
import stat
from pathlib import Path

HOME = Path("/etc/slurm")  # a job step forgets SLURM_CONF, hence the place where all look
OURS = "# Written by tests/cluster/one_host.py; may be overwritten and removed.\n"
NODES = ("n1", "n2")
CLUSTER = "onehost"
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")  # the controller of cgroup v1

SLURM_CONF = """
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
# A dead node is noticed soon, and is back as soon as its daemon answers.
SlurmdTimeout=10
ReturnToService=2
KillWait=2
# Jobs are started at once, and remembered for as long as Slurm does unless told otherwise.
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=2,batch_sched_delay=0
MinJobAge=300
# Every node claims the cores of this machine, and more memory than is used at a time.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
# Jobs of the partition urgent push those of the others from the nodes, and are pushed by none.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-1700{number}] \
CPUs={cores} RealMemory=16000 Gres=gpu:1
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=600
PartitionName=gpu Nodes=ALL MaxTime=INFINITE DefMemPerCPU=600
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefMemPerCPU=600 PriorityTier=10 PreemptMode=OFF
"""
KILLED_BY_THE_KERNEL = """
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=task=2
"""
KILLED_BY_SLURM = """
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""
CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainCores=no
ConstrainDevices=no
"""


def write_settings(folder: Path) -> None:
    """Write Slurm's settings; its state and logs go to the folder."""
    settings = SLURM_CONF.format(
        cluster=CLUSTER,
        host=socket.gethostname().split(".")[0],
        folder=folder,
        nodes=",".join(NODES),
        number=len(NODES),
        cores=os.cpu_count(),
    )
    settings += KILLED_BY_THE_KERNEL if MEMORY_CGROUP.is_dir() else KILLED_BY_SLURM
    HOME.mkdir(exist_ok=True)
    (HOME / "slurm.conf").write_text(OURS + settings)
    (HOME / "gres.conf").write_text(OURS + "".join(map(_gpu_of, NODES)))
    (HOME / "cgroup.conf").write_text(OURS + CGROUP_CONF)


def remove_settings() -> None:
    """Remove the settings, unless they are another's."""
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        file = HOME / name
        if file.exists() and file.read_text().startswith(OURS):
            file.unlink()


def others_settings() -> Path | None:
    """Return the settings of a Slurm that is here for other ends, or None."""
    file = HOME / "slurm.conf"
    return file if file.exists() and not file.read_text().startswith(OURS) else None


def _gpu_of(node: str) -> str:
    """Return the setting of a node's GPU: /dev/null under another name, enough to be handed out."""
    device = Path(f"/dev/{CLUSTER}-gpu-{node}")
    if not device.exists():
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return f"NodeName={node} Name=gpu File={device}\n"
