"""The GPU of this machine and its memory, from NVIDIA's driver (NVML)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from ttrl.memory.asked import Card

log = logging.getLogger(__name__)


def first_card(environ: Mapping[str, str] = os.environ) -> Card | None:
    """The card that CUDA calls its first, which engine and trainer share; None where there is none
    or nvidia-ml-py is not installed.

    NVML does not look at CUDA_VISIBLE_DEVICES and counts by PCI slot, as CUDA does for cards of one
    kind.
    """
    try:
        import pynvml
    except ImportError:
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return _card(pynvml, visible)
    except pynvml.NVMLError as error:
        log.warning("the card %s cannot be looked at: %s", visible, error)
        return None
    finally:
        pynvml.nvmlShutdown()


def _card(nvml: Any, visible: str) -> Card | None:
    if visible.startswith(("GPU-", "MIG-")):
        handle = nvml.nvmlDeviceGetHandleByUUID(visible)
    elif visible.isdigit():
        handle = nvml.nvmlDeviceGetHandleByIndex(int(visible))
    else:
        return None  # "" and "-1" hide all cards
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Card(nvml.nvmlDeviceGetName(handle), memory.total, memory.free)
