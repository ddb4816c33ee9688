"""RabbitMQ with quorum queues as the broker."""

from __future__ import annotations

import signal

import pytest

from service.pipeline.celery_app import CeleryPublisher, make_app
from service.records import InstanceState, LedgerEvent
from service.steps import Queue
from tests.photographs import photograph
from tests.rabbitmq import rabbitmq
from tests.stack import run_stack
from tests.waiting import wait_until


@pytest.mark.peers("rabbitmq-server")
@pytest.mark.timeout(400)
def test_photographs_go_through_rabbitmq_and_survive_their_worker() -> None:
    with rabbitmq() as url, run_stack(broker_url=url) as stack:
        app = make_app(stack.settings)
        publisher = CeleryPublisher(app)
        first = photograph()
        assert stack.send(first) == 0
        stack.wait_for(first.SOPInstanceUID, InstanceState.DELIVERED)

        with stack.held("worker-gpu"):
            waiting = [photograph() for _ in range(3)]
            assert [stack.send(each) for each in waiting] == [0, 0, 0]
            wait_until(lambda: publisher.depth(Queue.GPU) >= 2, timeout_s=20, what="jobs in the quorum queue")
            stack.signal("worker-gpu", signal.SIGKILL)
        for each in waiting:
            stack.wait_for(each.SOPInstanceUID, InstanceState.DELIVERED)
            assert stack.events(each.SOPInstanceUID).count(LedgerEvent.APPRAISED) == 1
        app.close()
