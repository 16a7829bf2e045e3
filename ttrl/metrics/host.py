"""The machine that all this is on."""

from __future__ import annotations

from ttrl.metrics.series import Maker


class Host:
    """Room on disk and on the card."""

    def __init__(self, make: Maker) -> None:
        self.disk_free = make.newest(
            "ttrl_disk_free_bytes", "Free on the disk that has the state directory."
        )
        self.disk_size = make.newest("ttrl_disk_size_bytes", "Size of that disk.")
        self.store_up = make.gauge(
            "ttrl_store_up", "1 if the store can be used; else nothing is recorded or learned."
        )
        self.store_size = make.newest(
            "ttrl_store_size_bytes", "Size of the store's database, where it is a file of ours."
        )
        self.card_used = make.gauge(
            "ttrl_gpu_memory_used_bytes", "Used on the GPU that engine and trainer share.", "card"
        )
        self.card_size = make.gauge("ttrl_gpu_memory_size_bytes", "Memory of that GPU.", "card")
