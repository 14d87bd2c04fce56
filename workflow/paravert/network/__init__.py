"""The U-Net: grid, training, segmentation and cleaning."""

import os

# Not AMX: on a virtual machine (Linux 6.18, Firecracker) its use corrupted other computations and
# crashed processes that a signal reached. oneDNN reads this once, when torch first computes.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
