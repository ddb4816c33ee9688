"""How texts of resources are read on this server: which URLs are its own, and in which zone a day lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from reporting.source import default_zone
from service.config import Settings


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a reference or a date of a resource means depends on."""

    base_url: str  # written into links, without a trailing slash
    zone: tzinfo  # of dates and times that name none
    own_urls: tuple[str, ...] = ()  # further base URLs that are ours; references below them are relative ones
    ehr_urls: Mapping[str, str] = field(default_factory=dict)  # base URL -> identifier system of its ids

    def relative(self, reference: str) -> str:
        """A reference without our base URL, where it begins with it."""
        for url in (self.base_url, *self.own_urls):
            if reference.startswith(f"{url}/"):
                return reference.removeprefix(f"{url}/")
        return reference

    def ehr_target(self, reference: str) -> tuple[str, str, str] | None:
        """(Type, id, identifier system) of a reference below one of the EHR's base URLs; None for others.

        The system is "" where the EHR's ids are those its resources have here.
        """
        for url, system in self.ehr_urls.items():
            base = url.rstrip("/")
            if not reference.startswith(f"{base}/"):
                continue
            steps = reference.removeprefix(f"{base}/").split("/")
            if len(steps) == 2 or (len(steps) == 4 and steps[2] == "_history"):
                return steps[0], steps[1], system
        return None


def site_of(settings: Settings) -> Site:
    """The site as the settings say.

    Raises:
        ConfigurationError: The machine's own zone is no zone.
    """
    return Site(
        base_url=settings.fhir_base_url(),
        zone=default_zone(settings.timezone),
        ehr_urls=settings.fhir_ehr_base_urls,
    )
