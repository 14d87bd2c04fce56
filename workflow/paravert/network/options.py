"""The options that the trainings share; their defaults are each one's own."""

from pathlib import Path
from typing import Annotated

import typer

OutModel = Annotated[Path, typer.Option(help="model to write (.safetensors)")]
Name = Annotated[str, typer.Option(help="name of the model in its card")]
Width = Annotated[int, typer.Option(help="channels of the first level")]
Levels = Annotated[int, typer.Option(help="levels of encoder and decoder")]
Normalisation = Annotated[str, typer.Option(help="of the layers: none, batch, instance or group")]
SpacingMm = Annotated[float, typer.Option(help="pixel size of the network's grid")]
Loss = Annotated[str, typer.Option(help="iou (the paper's) or cross_entropy_iou")]
FinishWithIou = Annotated[
    float, typer.Option(help="last share of the training with the paper's loss alone")
]
LearningRate = Annotated[float, typer.Option(help="of Adam, at the start")]
BatchSize = Annotated[int, typer.Option(help="slices per step")]
Minutes = Annotated[float, typer.Option(help="time in place of epochs; 0: epochs")]
StartFrom = Annotated[
    str, typer.Option(help="model to train on; its architecture and pixel size hold")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
AllThreads = Annotated[int, typer.Option(help="processor cores to use; 0: all")]
