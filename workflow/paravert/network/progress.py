"""How far a training is, and how that is told: a bar for who watches, a line per epoch else."""

import sys
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass
class Progress:
    """Epochs done, seconds spent, and a row of the learning curve per epoch."""

    epoch: int = 0
    seconds: float = 0.0
    curve: list[dict] = field(default_factory=list)


def progress_bar() -> tqdm:
    """Return a bar from 0 to 1, disabled where nobody watches."""
    form = "training {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
    return tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty())


def show(bar: tqdm, share_done: float, loss: float) -> None:
    """Move the bar to a share (0-1) and show the loss of the last batch."""
    bar.set_postfix_str(f" loss {loss:.3f}", refresh=False)
    bar.update(share_done - bar.n)


def told(row: dict) -> str:
    """Return a row of the learning curve as a line of the log."""
    return (
        f"{row['share_done']:.1%} after epoch {row['epoch']}, {row['seconds']:.0f} s: "
        f"loss {row['training_loss']:.4f}, "
        f"validation IoU {row['validation_iou']:.3f}, lowest muscle {row['lowest_iou']:.3f}"
    )
