"""Which device computes, and the number format of trainings."""

import ctypes
from typing import TYPE_CHECKING

from paravert.errors import InputError

if TYPE_CHECKING:  # segmentation on a processor starts without torch
    import torch

DEVICES = ("auto", "cpu", "cuda")
NVIDIA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


def device_kind(device: str) -> str:
    """Return cpu or cuda; auto is CUDA where there is a GPU.

    Raises InputError for cuda where there is none: never a silent fallback.
    """
    if device not in DEVICES:
        raise InputError("device", f"found {device!r}, expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return device
    if _has_nvidia_driver():
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if device == "cuda":
        raise InputError("device", "cuda is asked for and there is no GPU that torch can use")
    return "cpu"


def _has_nvidia_driver() -> bool:
    """Tell whether NVIDIA's driver is installed, without which torch need not be asked."""
    for library in NVIDIA_DRIVERS:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def chosen_device(device: str) -> "torch.device":
    """Return `device_kind` for torch."""
    import torch

    return torch.device(device_kind(device))


def low_format(device: "torch.device") -> "torch.dtype | None":
    """Return bfloat16 where the device trains in it fast, else None for float32."""
    import torch

    if device.type == "cpu":
        low = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        low = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if low else None


def describe(device: "torch.device") -> str:
    """Return the device in words, for logs and cards."""
    import torch

    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def exact_float32() -> None:
    """Keep float32 on GPUs exact: no TF32, and algorithms that give the same result every time."""
    import torch

    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
