"""A dashboard over a real database and store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reporting.fhir.http import Api
from reporting.http.server import make_api
from reporting.web.people import Role
from service.config import Settings
from tests.integration.reporting.web.browsing import BASE, Browser, add_user


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """With login by passcode, and a user of each role."""
    configured = settings.model_copy(
        update={"web_login": "passcode", "api_base_url": f"{BASE}/fhir", "timezone": "Europe/Berlin"}
    )
    made = make_api(configured)
    for role in Role:
        add_user(made, role.value, role)
    yield made
    made.close()


@pytest.fixture
def browser(api: Api) -> Browser:
    """Of nobody yet."""
    return Browser(api)


@pytest.fixture
def clinician(api: Api) -> Browser:
    """Of a clinician who is logged in."""
    made = Browser(api)
    made.log_in("clinician")
    return made
