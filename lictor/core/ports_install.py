"""What an installation needs from the world besides a Python and a file system.

It stands apart from `ports`, because no agent needs it: `lictor install` runs in the program that a
person calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class ImagePuller(Protocol):
    """A container engine that can fetch images. Blocking; raises `OperationFailed`."""

    def has(self, image: str) -> bool:
        """Whether the image is there already."""
        ...

    def pull(self, image: str, told: Callable[[str, float | None], None]) -> None:
        """Fetch it; `told(what, share)` hears of progress: a word, and 0 to 1 or None."""
        ...
