"""How many slices fit into memory at once, and how it is told that they did not."""

import torch

from paravert.network.architecture import Architecture
from paravert.network.predict import TOGETHER

NO_MEMORY = ("can't allocate memory", "not enough memory")  # as the processor's allocator says it
MOST_AT_ONCE = 64  # slices; a GPU is busy with fewer
# Of the GPU memory free or ours; the rest is for its libraries, what is cut up, and the neighbours of
# cut stacks, at most four slices.
FREE_SHARE = 0.5
BYTES_PER_ACTIVATION = 4
# Of the first level's size, what a pass holds at its widest place: the skips of all levels (2), what
# is put together there (2), what a convolution reads and writes (2), its library's own (2).
LEVELS_HELD = 8


def slices_at_once(
    architecture: Architecture, grid: tuple[int, int], device: torch.device, threads: int
) -> int:
    """Return how many slices of a grid (rows, columns) pass the network together in each thread."""
    if device.type != "cuda":
        return TOGETHER
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    slice_bytes = LEVELS_HELD * architecture.width * grid[0] * grid[1] * BYTES_PER_ACTIVATION
    return max(1, min(MOST_AT_ONCE, int(free * FREE_SHARE / threads / slice_bytes)))


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether memory ran out, on a GPU or in the processor's allocator."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in told for words in NO_MEMORY)
