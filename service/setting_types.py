"""Types of settings that are texts of one form: what does not read so is refused, with the reason."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

_BROKERS = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp", "memory")


def _time_zone(value: str) -> str:
    """Refuse what is neither empty nor in the IANA time zone database."""
    if value and value not in available_timezones():
        raise ValueError(f"{value!r} is not in the IANA time zone database")
    return value


def _libpq_url(value: str) -> str:
    """Refuse what libpq cannot read; its own message may quote the password and is not passed on."""
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.errors import ProgrammingError

    try:
        conninfo_to_dict(value)
    except ProgrammingError:
        raise ValueError("not a libpq URL such as postgresql://user@host:5432/database") from None
    return value


def _broker_url(value: str) -> str:
    """Refuse what names no broker that we have a transport for; it may hold a password and is not quoted."""
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in _BROKERS:
        raise ValueError(f"not a URL that begins with one of {', '.join(f'{each}://' for each in _BROKERS)}")
    return value


LibpqUrl = Annotated[str, AfterValidator(_libpq_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
