"""Room that is left where the data is."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


async def nearly_full(folders: Sequence[Path], free_min_bytes: int) -> bool:
    """Whether any of the file systems has less than `free_min_bytes` left. A folder that is not there says nothing."""

    def look() -> bool:
        return any(shutil.disk_usage(folder).free < free_min_bytes for folder in folders if folder.exists())

    return await asyncio.to_thread(look)
