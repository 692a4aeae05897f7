"""The automation that calls a webhook when a feed's run fails or crashes; it names the run, never a record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import EventTrigger, Posture
from pydantic import SecretStr

NAME = "sluice: a feed failed"
BLOCK = "sluice-alert"
UNSET = "http://127.0.0.1:9/set-SLUICE_ALERT_WEBHOOK"
PAYLOAD = '{"text": "Sluice: {{ flow_run.name }} is {{ flow_run.state.name }}", "run": "{{ flow_run.id }}"}'


def register_alert(url: str | None, tell: Callable[[str], None]) -> None:
    """Make or renew the webhook block and its automation; it stays switched off until a URL is known."""
    saved = Webhook(url=SecretStr(url or UNSET), method="POST").save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)  # noqa: S101
    automation = Automation(
        name=NAME,
        description="Calls the webhook block sluice-alert when a run of a feed fails or crashes.",
        enabled=url is not None,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.sluice"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[CallWebhook(block_document_id=saved, payload=PAYLOAD)],
    )
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(NAME):
            client.delete_automation(known.id)
    automation.create()
    tell(f"automation `{NAME}`: {'on' if url else 'off, set SLUICE_ALERT_WEBHOOK and deploy again'}")
