"""Who may do what in PostgreSQL: an owner for migrations, a writer for the processes, a reader for people.

The writer adds to what is append-only and can neither change it nor take anything out; of rows that are
sealed it changes the columns that move by right, and deletes none. It owns nothing, and disables no trigger.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from service.errors import ConfigurationError, DatabaseUnavailableError

# Rows are added and stay as they are.
APPENDED = frozenset(
    {
        "access_reason", "annotation", "audit_message", "expected", "fhir_history", "fhir_key",
        "fhir_template", "former_rating", "instance_version", "ledger", "outcome_validity", "outcome_window",
        "pairing_conflict", "pairing_decision", "phase", "photograph_role", "procedure_case", "risk_model",
        "seal", "signal", "signal_acknowledgement",
    }
)  # fmt: skip
# Rows are added, never deleted, and only these columns change: work, and versions whose forerunners are kept.
CHANGED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "appraisal": ("calibration", "rating", "percentile", "regions", "is_superseded"),
        "delivery": (
            "state", "attempts", "next_attempt_at", "claimed_until", "last_error", "delivered_at",
        ),
        "fhir_resource": (
            "version_id", "last_updated", "author", "patient", "occurred", "content_sha256", "template_id",
            "body",
        ),
        "instance": (
            "version", "sha256", "size_bytes", "sop_class_uid", "transfer_syntax_uid", "study_instance_uid",
            "series_instance_uid", "patient_id", "issuer_of_patient_id", "state", "attempts", "progressed_at",
            "next_attempt_at",
        ),
        "outcome_change": (
            "valid", "why_not", "case_version", "patient", "procedure_code", "performed_on", "site",
            "surgeon", "phenotype", "syndrome", "laterality", "age_years",
        ),
    }
)  # fmt: skip
# What people who read have no business with: secrets, and what a login is recognised by.
SECRET = frozenset({"fhir_key", "fhir_used_assertion", "web_login_failure", "web_session", "web_user"})
_SCHEMA_VERSION = "alembic_version"
# Arbitrary and fixed: of several that migrate one grants at a time.
_GRANT_LOCK = 5_373_170_004


def share(owner_url: str, writer_url: str, reader: str = "") -> None:
    """Give the writer and the reader their rights on every table, and take from them all others.

    Roles that are not there are made, where the owner may: the writer with the password of its URL, the
    reader as a group that cannot log in. A role that is there keeps its password. Safe to run again.

    Args:
        owner_url: libpq URL of the role that owns the schema.
        writer_url: libpq URL that the processes use.
        reader: Name of the role that may read all but secrets; "": none.

    Raises:
        ConfigurationError: A URL names no user; the writer is the owner, a superuser or of the owner's group;
            or a role is missing and the owner may not make it.
        DatabaseUnavailableError: The database cannot be reached.
    """
    given = conninfo_to_dict(writer_url)
    writer = str(given.get("user") or "")
    if not writer:
        raise ConfigurationError("database_url names no user: which role is to write?")
    try:
        with psycopg.connect(owner_url, connect_timeout=5) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_GRANT_LOCK,))
            _ensure_role(connection, writer, password=str(given.get("password") or ""), may_log_in=True)
            _require_lowly(connection, writer)
            if reader:
                _ensure_role(connection, reader, password="", may_log_in=False)
                _require_lowly(connection, reader)
            _grant(connection, writer, reader)
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc
    except errors.InsufficientPrivilege as exc:
        raise ConfigurationError(
            f"database_owner_url: this role does not own the schema ({exc.diag.message_primary})"
        ) from exc


def _ensure_role(
    connection: psycopg.Connection[TupleRow], role: str, *, password: str, may_log_in: bool
) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None:
        return
    statement = sql.SQL("CREATE ROLE {} " + ("LOGIN" if may_log_in else "NOLOGIN")).format(
        sql.Identifier(role)
    )
    if password:  # as a digest, so that no log of statements has it
        digest = connection.pgconn.encrypt_password(password.encode(), role.encode())
        statement += sql.SQL(" PASSWORD {}").format(sql.Literal(digest.decode()))
    try:
        connection.execute(statement)
    except errors.InsufficientPrivilege as exc:
        raise ConfigurationError(
            f"the role {role} is not there, and the owner may make none: have an administrator CREATE ROLE it"
        ) from exc


def _require_lowly(connection: psycopg.Connection[TupleRow], role: str) -> None:
    row = connection.execute(
        "SELECT rolsuper OR pg_has_role(rolname, current_user, 'MEMBER')"
        " OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
        " AND pg_has_role(r.rolname, c.relowner, 'MEMBER')) FROM pg_roles r WHERE rolname = %s",
        (role,),
    ).fetchone()
    if row is None or row[0]:
        raise ConfigurationError(
            f"the role {role} is a superuser, or owns tables: it could change what is sealed. Give"
            " database_url another user than database_owner_url"
        )


def _grant(connection: psycopg.Connection[TupleRow], writer: str, reader: str) -> None:
    """Exactly these rights, whatever was granted before; columns' rights go with their table's."""
    rows = connection.execute(
        "SELECT relname::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    ).fetchall()
    schema = sql.SQL("GRANT USAGE ON SCHEMA public TO {}")
    for role in filter(None, (writer, reader)):
        connection.execute(schema.format(sql.Identifier(role)))
    connection.execute(
        sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(sql.Identifier(writer))
    )
    for (table,) in rows:
        named = sql.Identifier(table)
        for role, rights in ((writer, _rights(table)), (reader, _reads(table))):
            if role:
                to = sql.Identifier(role)
                connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(named, to))
                if rights is not None:
                    connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(rights, named, to))


def _rights(table: str) -> sql.Composable:
    """What the writer may do with a table."""
    if table == _SCHEMA_VERSION:
        return sql.SQL("SELECT")
    if table in APPENDED:
        return sql.SQL("SELECT, INSERT")
    if table in CHANGED:
        columns = sql.SQL(", ").join(map(sql.Identifier, CHANGED[table]))
        return sql.SQL("SELECT, INSERT, UPDATE ({})").format(columns)
    return sql.SQL("SELECT, INSERT, UPDATE, DELETE")


def _reads(table: str) -> sql.Composable | None:
    return None if table in SECRET else sql.SQL("SELECT")
