"""Whether anything answers at an address and port, and how."""

from __future__ import annotations

import asyncio
import errno

from failover.core.model import Answer

RESET_S = 0.02  # a proxy accepts first and resets when it finds nobody behind: the same answer, a moment later


async def knock(host: str, port: int, timeout_s: float) -> Answer:
    """Connect and hang up. OPEN: taken; REFUSED: the kernel answered with a reset; SILENT: nothing answered in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Answer.REFUSED
    except ConnectionResetError:
        return Answer.REFUSED
    except (OSError, TimeoutError) as error:
        reset = isinstance(error, OSError) and error.errno == errno.ECONNABORTED
        return Answer.REFUSED if reset else Answer.SILENT
    try:
        async with asyncio.timeout(RESET_S):
            return Answer.OPEN if await reader.read(1) else Answer.REFUSED
    except TimeoutError:
        return Answer.OPEN
    except OSError:
        return Answer.REFUSED
    finally:
        writer.transport.abort()
