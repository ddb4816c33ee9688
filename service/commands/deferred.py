"""Every command, each loaded only when it is called.

So `--help` answers at once, a process loads no more than it needs, and `status` works without the science.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import typer

_Loaded = Callable[..., None] | typer.Typer


class Panel(StrEnum):
    """Groups of commands in ``semblance --help``, in their order."""

    RUN = "Run it"
    RESULTS = "Results"
    DATA = "Data in and out"
    SCIENCE = "Photographs and methods, without a server"
    OUTCOMES = "Surgical outcomes"
    AUDIT = "Audit"


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command."""

    panel: Panel
    load: Callable[[], _Loaded]
    summary: str  # what the list of commands says; the first sentence of the command's own help
    hidden: bool = False  # left out of the list


def _up() -> _Loaded:
    from service.commands.run.machine import up

    return up


def _demo() -> _Loaded:
    from service.commands.run.machine import demo

    return demo


def _node() -> _Loaded:
    from service.commands.run.processes import node

    return node


def _api() -> _Loaded:
    from service.commands.run.processes import api

    return api


def _relay() -> _Loaded:
    from service.commands.run.processes import relay

    return relay


def _hl7() -> _Loaded:
    from service.commands.run.processes import hl7

    return hl7


def _worker() -> _Loaded:
    from service.commands.run.processes import worker

    return worker


def _demo_pacs() -> _Loaded:
    from service.commands.run.processes import demo_pacs

    return demo_pacs


def _migrate() -> _Loaded:
    from service.commands.run.processes import migrate

    return migrate


def _doctor() -> _Loaded:
    from service.commands.doctor.command import doctor

    return doctor


def _status() -> _Loaded:
    from service.commands.state import status

    return status


def _retry() -> _Loaded:
    from service.commands.state import retry

    return retry


def _destinations() -> _Loaded:
    from service.commands.destinations import destinations_command

    return destinations_command


def _withdraw() -> _Loaded:
    from service.commands.corrections.withdraw import withdraw_command

    return withdraw_command


def _rerating() -> _Loaded:
    from service.commands.corrections.rerating import rerating_command

    return rerating_command


def _subscriptions() -> _Loaded:
    from service.commands.subscriptions import subscriptions_command

    return subscriptions_command


def _import() -> _Loaded:
    from service.commands.media import import_command

    return import_command


def _export() -> _Loaded:
    from service.commands.media import export_command

    return export_command


def _passcode() -> _Loaded:
    from service.commands.passcode import passcode

    return passcode


def _users() -> _Loaded:
    from service.commands.users import users_app

    return users_app


def _score() -> _Loaded:
    from service.commands.science.score import score

    return score


def _benchmark() -> _Loaded:
    from service.commands.science.benchmark import benchmark

    return benchmark


def _repeatability() -> _Loaded:
    from service.commands.science.repeatability import repeatability

    return repeatability


def _change() -> _Loaded:
    from service.commands.science.change import change

    return change


def _validate() -> _Loaded:
    from service.commands.science.validate import validate_command

    return validate_command


def _models() -> _Loaded:
    from service.commands.science.models import app

    return app


def _train() -> _Loaded:
    from service.commands.train.commands import train_app

    return train_app


def _quarantine() -> _Loaded:
    from service.commands.corrections.quarantine import quarantine_app

    return quarantine_app


def _rejections() -> _Loaded:
    from service.commands.corrections.rejections import rejections_app

    return rejections_app


def _outcomes() -> _Loaded:
    from service.commands.outcomes.charts import outcomes_app

    return outcomes_app


def _procedures() -> _Loaded:
    from service.commands.outcomes.procedures import procedures_app

    return procedures_app


def _simulate() -> _Loaded:
    from service.commands.outcomes.simulate import simulate_command

    return simulate_command


def _audit() -> _Loaded:
    from service.commands.audit.app import audit_app

    return audit_app


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "demo": Command(
            panel=Panel.RUN,
            load=_demo,
            summary="Send two photographs through the whole product on this machine and show what comes out.",
        ),
        "up": Command(
            panel=Panel.RUN,
            load=_up,
            summary="Run the whole product on this machine until Ctrl-C: database, broker, node, API, "
            "workers.",
        ),
        "node": Command(
            panel=Panel.RUN,
            load=_node,
            summary="Run the DICOM node: receives photographs and sends nothing.",
        ),
        "api": Command(panel=Panel.RUN, load=_api, summary="Run the FHIR API and DICOMweb."),
        "relay": Command(
            panel=Panel.RUN,
            load=_relay,
            summary="Run the relay between PostgreSQL's outbox and the broker, which also finds stalled "
            "work.",
        ),
        "hl7": Command(
            panel=Panel.RUN,
            load=_hl7,
            summary="Run the HL7 listener: merges and updates of patients by ADT messages over MLLP. "
            "Needs PostgreSQL.",
        ),
        "worker": Command(
            panel=Panel.RUN, load=_worker, summary="Run a worker: appraisals, result objects, deliveries."
        ),
        "demo-pacs": Command(
            panel=Panel.RUN, load=_demo_pacs, summary="Run the small PACS of the demonstration.", hidden=True
        ),
        "migrate": Command(
            panel=Panel.RUN,
            load=_migrate,
            summary="Bring the database's schema up to date; safe to run from several places at once.",
        ),
        "doctor": Command(
            panel=Panel.RUN,
            load=_doctor,
            summary="Look whether this machine and its settings are fit to run Semblance; ends with 1 when "
            "something is not.",
        ),
        "status": Command(
            panel=Panel.RESULTS,
            load=_status,
            summary="Show what is where in the pipeline, or the whole history of one photograph or study.",
        ),
        "retry": Command(
            panel=Panel.RESULTS,
            load=_retry,
            summary="Take up again what was given up, from the step it failed in, with fresh attempts.",
        ),
        "destinations": Command(
            panel=Panel.RESULTS,
            load=_destinations,
            summary="Show where results go: whether each destination answers, what waits for it, what was "
            "given up.",
        ),
        "quarantine": Command(
            panel=Panel.RESULTS,
            load=_quarantine,
            summary="Show what is in quarantine, and decide what becomes of it.",
        ),
        "rejections": Command(
            panel=Panel.RESULTS,
            load=_rejections,
            summary="Show the rejection notes that were followed, and lift those that were sent by mistake.",
        ),
        "withdraw": Command(
            panel=Panel.RESULTS,
            load=_withdraw,
            summary="Take a result back: EHRs read it as entered in error, with the reason; nothing is "
            "deleted.",
        ),
        "rerating": Command(
            panel=Panel.RESULTS,
            load=_rerating,
            summary="Show how far results are rated anew by new calibrations, and what is not comparable, "
            "as lines of JSON.",
        ),
        "subscriptions": Command(
            panel=Panel.RESULTS,
            load=_subscriptions,
            summary="Show which EHRs are told of results and what was given up, as lines of JSON; or try "
            "that again.",
        ),
        "import": Command(
            panel=Panel.DATA,
            load=_import,
            summary="Take photographs in from media, as if a camera had sent them; the audit trail says so.",
        ),
        "export": Command(
            panel=Panel.DATA,
            load=_export,
            summary="Write a study's photographs and results to media; the audit trail says so.",
        ),
        "passcode": Command(
            panel=Panel.DATA,
            load=_passcode,
            summary="Print a line for `dicom_users_file`: a user and the digest of a passcode, asked for or "
            "piped in.",
        ),
        "users": Command(
            panel=Panel.RUN, load=_users, summary="Who may log in to the dashboard by passcode."
        ),
        "score": Command(
            panel=Panel.SCIENCE,
            load=_score,
            summary="Score photographs: how normal each face looks, where it differs, and whether it could "
            "be judged.",
        ),
        "change": Command(
            panel=Panel.SCIENCE,
            load=_change,
            summary="Say which regions changed between two photographs by more than the method varies by "
            "itself.",
        ),
        "validate": Command(
            panel=Panel.SCIENCE,
            load=_validate,
            summary="Compare scores with human ratings: Pearson, Spearman, MAE, W1, agreement of the raters.",
        ),
        "repeatability": Command(
            panel=Panel.SCIENCE,
            load=_repeatability,
            summary="Measure within-subject SD, smallest detectable change and ICC, per region, and store "
            "them.",
        ),
        "benchmark": Command(
            panel=Panel.SCIENCE,
            load=_benchmark,
            summary="Measure synthetic validity: how well methods find, rank and localise synthetic "
            "anomalies.",
        ),
        "models": Command(
            panel=Panel.SCIENCE, load=_models, summary="Model files: list, verify, pull, convert."
        ),
        "train": Command(
            panel=Panel.SCIENCE,
            load=_train,
            summary="Make the weights of the methods (CPU or one GPU; resumable).",
        ),
        "procedures": Command(
            panel=Panel.OUTCOMES, load=_procedures, summary="Operations: bring them in from a file."
        ),
        "outcomes": Command(
            panel=Panel.OUTCOMES,
            load=_outcomes,
            summary="Surgical outcomes: pairs, charts, risk models and reports.",
        ),
        "simulate": Command(
            panel=Panel.OUTCOMES,
            load=_simulate,
            summary="Make up five years of cases with things planted in them, and say what the charts "
            "find, as JSON.",
        ),
        "audit": Command(
            panel=Panel.AUDIT,
            load=_audit,
            summary="Audit messages, and the chain over all that is sealed: verify, sign, export.",
        ),
    }
)
