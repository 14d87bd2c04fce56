"""The rules of the workflow as Snakemake loads them.

Run as a program, in a folder of its own, it prints them as JSON: Snakemake changes the process that
loads a workflow.
"""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def loaded_rules(sheet: Path) -> dict[str, dict]:
    """Return by rule: retries, has_run, has_service, and minutes (None if not constant).

    sheet: the subject sheet, for which no image needs to exist.
    """
    command = [sys.executable, __file__, str(sheet)]
    done = subprocess.run(command, cwd=sheet.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _load(sheet: str) -> dict[str, dict]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(
            resource_settings=ResourceSettings(),
            config_settings=ConfigSettings(config={"sheet": sheet}),
            snakefile=REPOSITORY / "Snakefile",
            workdir=Path.cwd(),
        )
        return {rule.name: _described(rule) for rule in loaded._workflow.rules}


def _described(rule) -> dict:
    from snakemake.io import is_flagged

    return {
        "retries": rule._restart_times,
        "has_run": rule.is_run,
        "has_service": any(is_flagged(file, "service") for file in rule.output),
        "minutes": _minutes(rule.resources["runtime"]) if "runtime" in rule.resources else None,
    }


def _minutes(runtime) -> int | None:
    if not runtime.is_evaluable():
        return runtime.value
    try:
        return runtime.evaluate(None, attempt=1).value
    except AttributeError:  # of a shard's job: its wildcard is not known
        return None


if __name__ == "__main__":
    json.dump(_load(sys.argv[1]), sys.stdout)
