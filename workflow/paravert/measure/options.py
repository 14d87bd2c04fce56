"""The options that the commands of this room share."""

from pathlib import Path
from typing import Annotated

import typer

SegmentTable = Annotated[Path, typer.Option(help="shard table of segment_muscles")]
SubjectsFolder = Annotated[Path, typer.Option(help="folder with a folder per subject")]
OutTable = Annotated[Path, typer.Option(help="shard table to write")]
Workers = Annotated[int, typer.Option(help="subjects worked on at the same time")]
