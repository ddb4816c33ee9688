"""Messages out of the outbox to the broker."""

from __future__ import annotations

from typing import Protocol

from service.database import outbox
from service.database.outbox import OutboxMessage
from service.database.pool import Pool, transaction
from service.pipeline.completeness import note_received
from service.steps import APPRAISE, Queue


class Publisher(Protocol):
    """Hands messages to the broker."""

    def publish(self, message: OutboxMessage) -> None:
        """Publish one message.

        Raises:
            BrokerUnavailableError: The broker did not take it.
        """

    def depth(self, queue: Queue) -> int:
        """How many messages wait in a queue.

        Raises:
            BrokerUnavailableError: The broker did not answer.
        """


def publish_due(pool: Pool, publisher: Publisher, limit: int = 200) -> int:
    """Publish due messages of the outbox and delete them; several relays may do so at once.

    At least once: when the deletion does not commit, the messages go out again, and the steps bear it.

    Returns:
        How many were published.

    Raises:
        DatabaseUnavailableError, BrokerUnavailableError: Nothing of this batch is lost.
    """
    with transaction(pool) as connection:
        messages = outbox.take_due(connection, limit)
        note_received(connection, [int(each.subject_id) for each in messages if each.task == APPRAISE.task])
        for message in messages:
            publisher.publish(message)
        outbox.delete(connection, [message.outbox_id for message in messages])
    return len(messages)
