"""The FHIR API, DICOMweb and the dashboard in one process; STOW-RS takes instances in."""

from __future__ import annotations

from dicom_node.admission.admission import Admission
from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.journal import Journal
from dicom_node.intake.stow import StowReceiver
from reporting.dicomweb.app import dicomweb_app
from reporting.holdings.index import Indexer
from reporting.http.ledger import ledger_app
from reporting.http.server import MakeMount, serve
from reporting.web.app import web_app
from service.config import Settings
from service.database.pool import open_pool
from service.storage.local import open_store


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: See ``serve``.
        DatabaseUnavailableError: PostgreSQL cannot be reached when it begins.
        StorageError: The store cannot be opened.
    """
    store = open_store(settings)
    with open_pool(settings) as pool:
        commit, journal, indexer = GroupCommit(settings), Journal(pool), Indexer(pool, store)
        admission = Admission(_without_users(settings), pool)
        ingest = Ingest(
            settings=settings,
            store=store,
            pool=pool,
            commit=commit,
            journal=journal,
            admission=admission,
            most_inflated_bytes=settings.dicom_max_inflated_bytes,
        )
        receiver = StowReceiver(settings, ingest)
        journal.start()
        indexer.start()
        try:
            beside: list[MakeMount] = [lambda api: dicomweb_app(api, receiver.begin), ledger_app]
            serve(settings, [*beside, *([web_app] if settings.web_enabled else [])])
        finally:
            indexer.stop()
            journal.stop()
            commit.close()
            admission.close()


def _without_users(settings: Settings) -> Settings:
    """The same limits as of C-STORE; who sends is known by a token, not by DICOM's user identity."""
    return settings.model_copy(update={"dicom_users_file": None, "dicom_require_user_identity": False})
