"""The rules of the workflow as Snakemake loads them.

Run as a program, in a folder of its own, it prints them as JSON: loading a workflow changes
environment and working directory of the process.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).parents[1]


def loaded_rules(study: Path) -> dict[str, dict]:
    """Return the properties of every rule that is no mere target, by its name.

    study: a folder with study.yaml, the configuration, and its sheet. needs: mem_mb and runtime, each
    in the first and second attempt, with two threads, for the first shard.
    """
    command = [sys.executable, __file__, "study.yaml"]
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _load(configuration: Path) -> dict[str, dict]:
    from snakemake.api import ConfigSettings, OutputSettings, ResourceSettings, SnakemakeApi

    with SnakemakeApi(OutputSettings()) as api:
        loaded = api.workflow(
            ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[configuration]),
            snakefile=REPOSITORY / "Snakefile",
        )
        shard = next(iter(loaded._workflow.globals["SHARDS"]))
        rules = [rule for rule in loaded._workflow.rules if rule.shellcmd or rule.is_run]
        return {rule.name: _described(rule, shard) for rule in rules}


def _described(rule, shard: str) -> dict:
    from snakemake.io import is_flagged

    return {
        "shell": rule.shellcmd,
        "log": bool(rule.log),
        "benchmark": bool(rule.benchmark),
        "conda": str(rule.conda_env),
        "message": rule.message,
        "needs": {name: _needed(rule.resources[name], shard) for name in ("mem_mb", "runtime")},
        "retries": rule._restart_times,
        "version": rule.params.get("version"),
        "has_run": rule.is_run,
        "has_service": any(is_flagged(file, "service") for file in rule.output),
    }


def _needed(resource, shard: str) -> list[int]:
    wildcards = SimpleNamespace(shard=shard, part="training")
    return [
        resource.evaluate(wildcards=wildcards, threads=2, attempt=attempt).value
        for attempt in (1, 2)
    ]


if __name__ == "__main__":
    json.dump(_load(Path(sys.argv[1])), sys.stdout)
