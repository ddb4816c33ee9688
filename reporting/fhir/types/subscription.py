"""Subscription: who is told of new Observations."""

from __future__ import annotations

from reporting.fhir.types.base import WRITABLE, resource_type, string, token, uri

SUBSCRIPTION = resource_type(
    "Subscription",
    WRITABLE,
    token("status", 1501, "status", system="http://hl7.org/fhir/subscription-status"),
    token("type", 1502, "channel.type", system="http://hl7.org/fhir/subscription-channel-type"),
    uri("url", 1503, "channel.endpoint"),
    string("criteria", 1504, "criteria"),
    token("contact", 1505, "contact"),
    token("payload", 1506, "channel.payload"),
    doc="rest-hook notifications of Observations, to the endpoints that are allowed here.",
)
