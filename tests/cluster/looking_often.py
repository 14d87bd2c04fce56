"""Snakemake, but it looks at its jobs on the cluster every second.

The interval of its Slurm plugin grows by 10 s with every look at which no job has ended, and no option
bounds it.
"""

import asyncio
import os
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

SECONDS = 1


async def _sleep(executor: RemoteExecutor) -> None:
    await asyncio.sleep(SECONDS)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as with -m
    RemoteExecutor.sleep = _sleep
    main()
