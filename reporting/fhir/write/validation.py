"""``$validate``: everything wrong with a resource, or with what is meant to be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.http import Api, Request, Response, answer
from reporting.fhir.options import once_each, unknown_options
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType, operation_outcome
from reporting.fhir.parameters import parameters_of
from reporting.fhir.read.reading import visible
from reporting.fhir.render import loads
from reporting.fhir.search_table import Interaction, ResourceType
from reporting.fhir.valid.profiles import profile_issues, profiles
from reporting.fhir.valid.validate import issues_of
from service.database.pool import transaction

OPTIONS = frozenset({"mode", "profile"})
_MODES = {"create": Interaction.CREATE, "update": Interaction.UPDATE, "delete": None, "profile": None}


def validate(api: Api, request: Request) -> Response:
    """``POST [type]/$validate`` and ``POST [type]/[id]/$validate``, with ``mode`` and ``profile`` (R4)."""
    row = request.resource_type
    resource, options = _given(request)
    mode, resource_id = options.get("mode"), request.parameters.get("id")
    if mode is not None and mode not in _MODES:
        raise FhirProblemError(400, IssueType.VALUE, f"mode is one of {', '.join(_MODES)}", "http.mode")
    if resource is None and resource_id is not None:
        resource = _stored(api, request, row, resource_id)
    if resource is None:
        raise FhirProblemError(
            400, IssueType.REQUIRED, "there is no parameter resource", "Parameters.parameter"
        )
    if resource.get("resourceType") != row.name:
        raise FhirProblemError(
            400, IssueType.INVALID, f"the body is no {row.name}", f"{row.name}.resourceType"
        )
    issues = [*_mode_issues(row, resource, mode, resource_id), *issues_of(resource)]
    if not issues:
        for url in _profiles_of(resource, options):
            issues += profile_issues(resource, url)
    valid = Issue(code=IssueType.INFORMATIONAL, diagnostics="valid", severity="information")
    return answer(operation_outcome(tuple(issues) or (valid,)))


def _given(request: Request) -> tuple[Any, dict[str, str]]:
    """The resource, if there is one, and the options."""
    options = dict(request.query)
    if not request.body:
        return None, options
    body = request.resource()
    if body.get("resourceType") != "Parameters":
        return body, options
    resource = None
    for each in parameters_of(request):
        if each["name"] == "resource":
            if resource is not None:
                raise FhirProblemError(
                    400, IssueType.INVALID, "the parameter resource is given twice", "Parameters.parameter"
                )
            resource = each.get("resource")
            if not isinstance(resource, dict):
                raise FhirProblemError(
                    400, IssueType.REQUIRED, "the parameter resource holds none", "Parameters.parameter"
                )
        elif each["name"] in ("mode", "profile"):
            given = str(next((v for k, v in each.items() if k.startswith("value")), ""))
            once_each([*options.items(), (each["name"], given)], OPTIONS)
            options[each["name"]] = given
        else:
            unknown_options([(each["name"], "")], {"resource", *OPTIONS}, strict=request.strict)
    return resource, options


def _stored(api: Api, request: Request, row: ResourceType, resource_id: str) -> Any:
    grant = request.principal.grant(row.name, "r")
    with transaction(api.pool) as connection:
        stored = fhir_resources.read(connection, row.name, resource_id)
        if stored is None or not visible(connection, api, stored, grant):
            raise FhirProblemError(
                404, IssueType.NOT_FOUND, f"there is no {row.name}/{resource_id}", "http.path"
            )
    return loads(stored.body)


def _mode_issues(
    row: ResourceType, resource: Mapping[str, Any], mode: str | None, resource_id: str | None
) -> Iterator[Issue]:
    needed = _MODES[mode] if mode is not None else None
    if mode == "delete" or (needed is not None and needed not in row.interactions):
        text = f"{row.name} does not take the interaction {mode} here"
        yield Issue(code=IssueType.NOT_SUPPORTED, diagnostics=text, expression=row.name)
    if mode == "update" and resource_id is not None and resource.get("id") != resource_id:
        text = "the id in the body is not the one in the path"
        yield Issue(code=IssueType.INVALID, diagnostics=text, expression=f"{row.name}.id")


def _profiles_of(resource: Mapping[str, Any], options: Mapping[str, str]) -> list[str]:
    """The profile asked for, and those of ours that the resource claims."""
    claimed = [
        url for url in resource.get("meta", {}).get("profile", []) if url.partition("|")[0] in profiles()
    ]
    asked = [options["profile"]] if "profile" in options else []
    return list(dict.fromkeys([*asked, *claimed]))
