"""The automations: one calls a webhook when a run fails or crashes, one marks runs as crashed that have died.

Both name runs, never a record.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from flows.reap import HEARTBEAT_EVENT, SILENCE_SECONDS

NAME = "sluice: a feed failed"
DIED = "sluice: a run died"
BLOCK = "sluice-alert"
UNSET = "http://127.0.0.1:9/set-SLUICE_ALERT_WEBHOOK"
PAYLOAD = '{"text": "Sluice: {{ flow_run.name }} is {{ flow_run.state.name }}", "run": "{{ flow_run.id }}"}'
OURS = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.sluice"})
AT_REST = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Scheduled", "AwaitingRetry", "Pending", "Paused")
"""States in which nobody runs, or nobody does yet: no heartbeat is missed in them."""


def register_alert(url: str | None, tell: Callable[[str], None]) -> None:
    """Make or renew the webhook block and its automation; it stays switched off until a URL is known."""
    saved = Webhook(url=SecretStr(url or UNSET), method="POST").save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)  # noqa: S101
    _renew(
        Automation(
            name=NAME,
            description="Calls the webhook block sluice-alert when a run of a feed fails or crashes.",
            enabled=url is not None,
            trigger=EventTrigger(
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
                match_related=OURS,
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[CallWebhook(block_document_id=saved, payload=PAYLOAD)],
        )
    )
    tell(f"automation `{NAME}`: {'on' if url else 'off, set SLUICE_ALERT_WEBHOOK and deploy again'}")


def register_died(tell: Callable[[str], None]) -> None:
    """Make or renew the automation that marks a run as crashed whose heartbeats have stopped.

    Prefect's server sees to it, not the runner that died. The run can then be retried, and it is told of.
    """
    _renew(
        Automation(
            name=DIED,
            description="Marks a run as crashed when its heartbeats have stopped; the ledger knows where to go on.",
            trigger=EventTrigger(
                after={HEARTBEAT_EVENT},
                expect={HEARTBEAT_EVENT, *(f"prefect.flow-run.{name}" for name in AT_REST)},
                match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                match_related=OURS,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=SILENCE_SECONDS),
            ),
            actions=[
                ChangeFlowRunState(
                    name=None, state=StateType.CRASHED, message="No heartbeat any more: its process died.", force=False
                )
            ],
        )
    )
    tell(f"automation `{DIED}`: on, after {SILENCE_SECONDS} s without a heartbeat")


def _renew(automation: Automation) -> None:
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(automation.name):
            client.delete_automation(known.id)
    automation.create()
