"""Many writes as few transactions: split where Consul's own limits are, and never in one key.

Consul takes 64 operations and 512 KiB in one transaction (65 and more are answered 413; measured on
1.8.7). Within one, readers see all or nothing; over several, whoever writes a mark of completeness
writes it last. Pure: it sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from lictor.consul_integration.client import TXN_OPERATIONS

K = TypeVar("K")

#: Bytes of texts in one transaction: Consul takes bodies of 512 KiB, and base64 adds a third.
TXN_BYTES = 320 * 1024


def batches(texts: Mapping[K, str | None]) -> Iterator[list[tuple[K, str | None]]]:
    """The keys with their texts (None: to be deleted), in order, as many at a time as fit."""
    batch: list[tuple[K, str | None]] = []
    size = 0
    for key, text in texts.items():
        length = len(text.encode()) if text else 0
        if batch and (len(batch) == TXN_OPERATIONS or size + length > TXN_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((key, text))
        size += length
    if batch:
        yield batch
