"""The networks for muscles and vertebral levels: training, prediction, model files."""

import os

# Not AMX, as a precaution: with it, processes on a virtual machine (Linux 6.18, Firecracker) crashed or
# computed other values; the cause is not established. oneDNN reads this once, when torch first computes.
# A training is twice as fast with it: see `fit.low_format`.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
