"""Which processor computes, and in which number format."""

import torch

from paravert.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def chosen_device(device: str) -> torch.device:
    """Return the device that is asked for; auto is CUDA where there is one.

    Raises InputError for cuda where there is none: never a silent fallback.
    """
    if device not in DEVICES:
        raise InputError("device", f"found {device!r}, expected one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device", "cuda is asked for and there is no GPU that torch can use")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def low_format(device: torch.device, purpose: str) -> torch.dtype | None:
    """Return bfloat16 where the device computes in it fast, else None for float32.

    purpose: training or prediction. A GPU predicts in float32: there the network takes less time
    than reading the images, so that nothing is gained by rounding.
    """
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bf16() else None
    if purpose == "training" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return None


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def describe(device: torch.device, threads: int | None = None) -> str:
    """Return the device in words, for logs and cards; threads: torch's own if None."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({threads or torch.get_num_threads()} threads)"


def exact_float32() -> None:
    """Keep float32 on GPUs whole: no TF32, algorithms that give the same result every time."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
