"""Questions that many ask at the same time, asked together: what it costs to ask is shared by all who came meanwhile."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from app.gate import Lane, lane

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_MOST_TOGETHER = 64
_MOST_UNDER_WAY = 2
"""So many askings at a time: one on a connection that has gone silent doesn't hold up everybody, and others gather meanwhile."""


class Gathering(Generic[Question, Answer]):
    """
    One who comes alone is asked for at once. A question never joins an asking that has begun: its answer was true after it came.
    """

    def __init__(
        self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | Exception]]], *, queue_in: Lane
    ) -> None:
        """
        Args:
            ask: gives each question its answer, in their order, or the error that it is to be raised for it.
            queue_in: where the askings queue for the database.
        """
        self._ask = ask
        self._lane = queue_in
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._askings: set[asyncio.Task[None] | None] = set()

    async def answer_to(self, question: Question) -> Answer:
        """
        Raises:
            Exception: what `ask` has found for it, or what `ask` itself has raised, which all in that asking are told.
        """
        loop = asyncio.get_running_loop()
        coming: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, coming))
        if len(self._askings) < _MOST_UNDER_WAY:
            # With a context of its own: it works for others, too, and doesn't end with the first of them.
            self._askings.add(loop.create_task(self._ask_while_some_wait(), context=Context()))
        return await coming

    async def _ask_while_some_wait(self) -> None:
        lane.set(self._lane)
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
                # Whoever has left needn't be asked for.
                await self._ask_for([(question, coming) for question, coming in together if not coming.done()])
        finally:
            # Now, not when the task has ended: whoever comes in between would wait for it in vain.
            self._askings.discard(asyncio.current_task())

    async def _ask_for(self, together: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        if not together:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._ask([question for question, _ in together])
        except Exception as error:  # noqa: BLE001 - is raised where the answer is awaited
            answers = [error] * len(together)
        for (_, coming), answer in zip(together, answers, strict=True):
            if coming.done():
                continue  # whoever asked has left
            if isinstance(answer, Exception):
                coming.set_exception(answer)
            else:
                coming.set_result(answer)
