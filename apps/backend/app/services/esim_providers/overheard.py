"""Every word of an answer, also of one that is no HTTP: what the reader can't make sense of is all that a person has to go by."""

import asyncio

from app.services.esim_providers.contract import MAX_ANSWER_BYTES

_MOST_BYTES = 2 * MAX_ANSWER_BYTES
"""Whoever sends more (interim answers without end, say) is cut off: to read on until the deadline holds up all other calls."""


class Overheard(asyncio.Protocol):
    """Stands between a connection and its reader, keeps what comes in, and passes everything on."""

    def __init__(self, reader: asyncio.Protocol, transport: asyncio.Transport, words: bytearray) -> None:
        """
        Args:
            words: takes what comes in, up to MAX_ANSWER_BYTES.
        """
        self._reader = reader
        self._transport = transport
        self._words = words
        self._received = 0

    def data_received(self, data: bytes) -> None:
        self._words += data[: MAX_ANSWER_BYTES - len(self._words)]
        self._received += len(data)
        if self._received > _MOST_BYTES:
            self._transport.abort()
        else:
            self._reader.data_received(data)

    def eof_received(self) -> bool | None:
        return self._reader.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reader.connection_lost(exc)

    def pause_writing(self) -> None:
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        self._reader.resume_writing()
