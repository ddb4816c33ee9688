"""The OpenAPI document, made of the tables that serve."""

from __future__ import annotations

from typing import Any

import service
from reporting.fhir.http import FHIR_JSON, FORM, PLAIN_JSON, Api, Request, Response
from reporting.fhir.render import dumps
from reporting.fhir.search.search_request import RESULT_PARAMETERS
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES, Interaction, ResourceType

_ERRORS = ("400", "401", "403", "404", "405", "406", "410", "412", "413", "415", "421", "422", "503")
_DESCRIPTIONS = {
    "200": "Found or done", "201": "Created", "202": "Accepted", "304": "Not modified",
    "400": "Malformed request", "401": "No valid token", "403": "Not permitted", "404": "Not there",
    "405": "Not served for this type", "406": "No such format", "410": "Withdrawn",
    "412": "A condition does not hold",
    "413": "Too long", "415": "No such format", "421": "Called by another name", "422": "Invalid resource",
    "503": "The database cannot be reached",
}  # fmt: skip

Json = dict[str, Any]


def document(api: Api, _request: Request) -> Response:
    """``GET openapi.json``."""
    return Response(body=dumps(openapi(api)).encode(), content_type=PLAIN_JSON)


def openapi(api: Api) -> Json:
    """Make the document."""
    paths: dict[str, Json] = {
        "/metadata": {"get": _operation("capabilities", "200")},
        "/": {"post": _operation("transaction", "200", body=FHIR_JSON)},
        "/Observation/$lastn": {
            "get": _operation("lastn", "200", parameters=[_query("patient"), _query("max")]),
            "post": _operation("post-lastn", "200", body=FHIR_JSON),
        },
        "/Observation/{id}/$withdraw": {
            "post": _operation("withdraw", "200", parameters=[_path("id")], body=FHIR_JSON)
        },
        "/Measure/facial-change": {"get": _operation("measure", "200")},
        "/Measure/facial-change/$evaluate-measure": {
            "get": _operation(
                "evaluate-measure",
                "200",
                parameters=[_query("code"), _query("periodStart"), _query("periodEnd")],
            ),
            "post": _operation("post-evaluate-measure", "200", body=FHIR_JSON),
        },
        "/Patient/{id}/$everything": {
            "get": _operation("everything", "200", parameters=[_path("id"), _query("start"), _query("end")]),
            "post": _operation("post-everything", "200", parameters=[_path("id")], body=FHIR_JSON),
        },
        "/$export": {
            "get": _operation(
                "export", "202", parameters=[_query("_type"), _query("_since"), _header("Prefer")]
            ),
            "post": _operation("post-export", "202", parameters=[_header("Prefer")], body=FHIR_JSON),
        },
        "/$export-status/{id}": {
            "get": _operation("export-status", "200", "202", parameters=[_path("id")]),
            "delete": _operation("export-cancel", "202", parameters=[_path("id")]),
        },
        "/$export-file/{id}/{place}": {
            "get": _operation("export-file", "200", parameters=[_path("id"), _path("place")])
        },
        "/Binary/{id}": {"get": _operation("heatmap", "200", parameters=[_path("id")])},
    }
    for row in RESOURCE_TYPES.values():
        paths |= _of_type(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Semblance FHIR API", "version": service.__version__},
        "servers": [{"url": api.base_url}],
        "paths": paths,
    }


def _of_type(row: ResourceType) -> dict[str, Json]:
    one = [_path("id")]
    search = [_query(name) for name in (*row.parameters, *RESULT_PARAMETERS)]
    paths: dict[str, Json] = {
        f"/{row.name}": {"get": _operation(f"search-{row.name}", "200", parameters=search)},
        f"/{row.name}/_search": {"post": _operation(f"post-search-{row.name}", "200", body=FORM)},
        f"/{row.name}/$validate": {"post": _operation(f"validate-{row.name}", "200", body=FHIR_JSON)},
        f"/{row.name}/{{id}}": {
            "get": _operation(f"read-{row.name}", "200", "304", parameters=[*one, _header("If-None-Match")])
        },
    }
    if row.name in IN_PATIENT_COMPARTMENT:
        within = f"/Patient/{{id}}/{row.name}"
        paths[within] = {"get": _operation(f"within-{row.name}", "200", parameters=[*one, *search])}
        paths[f"{within}/_search"] = {
            "post": _operation(f"post-within-{row.name}", "200", parameters=one, body=FORM)
        }
    if Interaction.VREAD in row.interactions:
        version = [*one, _path("version")]
        path = f"/{row.name}/{{id}}/_history/{{version}}"
        paths[path] = {"get": _operation(f"vread-{row.name}", "200", "304", parameters=version)}
    if Interaction.HISTORY_INSTANCE in row.interactions:
        options = [_query("_count"), _query("_since")]
        paths[f"/{row.name}/_history"] = {"get": _operation(f"history-{row.name}", "200", parameters=options)}
        paths[f"/{row.name}/{{id}}/_history"] = {
            "get": _operation(f"versions-{row.name}", "200", parameters=[*one, *options])
        }
    if Interaction.CREATE in row.interactions:
        condition = [_header("If-None-Exist"), _header("Prefer")]
        paths[f"/{row.name}"]["post"] = _operation(
            f"create-{row.name}", "200", "201", parameters=condition, body=FHIR_JSON
        )
        paths[f"/{row.name}/{{id}}"]["put"] = _operation(
            f"update-{row.name}", "200", "201", parameters=[*one, _header("If-Match")], body=FHIR_JSON
        )
    return paths


def _operation(name: str, *statuses: str, parameters: list[Json] | None = None, body: str = "") -> Json:
    made: Json = {
        "operationId": name,
        "responses": {status: {"description": _DESCRIPTIONS[status]} for status in (*statuses, *_ERRORS)},
    }
    if parameters:
        made["parameters"] = parameters
    if body:
        made["requestBody"] = {"required": True, "content": {body: {"schema": {"type": "object"}}}}
    return made


def _path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(name: str) -> Json:
    return {"name": name, "in": "query", "schema": {"type": "string"}}


def _header(name: str) -> Json:
    return {"name": name, "in": "header", "schema": {"type": "string"}}
