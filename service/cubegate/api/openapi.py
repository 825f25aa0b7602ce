"""The OpenAPI document, corrected where FastAPI describes answers that are never given."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from cubegate.api.problems import PROBLEM_RESPONSES

VALIDATION_SCHEMAS = ("HTTPValidationError", "ValidationError")


def correct_openapi(app: FastAPI) -> None:
    """Describe errors as what `register_problems` makes of them: problems, and 400 in place of 422."""
    generate = app.openapi

    def corrected() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for operations in document["paths"].values():
                for operation in operations.values():
                    _correct(operation["responses"])
            for name in VALIDATION_SCHEMAS:
                document.get("components", {}).get("schemas", {}).pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = corrected  # type: ignore[method-assign]  # FastAPI's documented way


def _correct(responses: dict[str, Any]) -> None:
    if responses.pop("422", None) is not None:
        responses.setdefault("400", PROBLEM_RESPONSES[400])
    for status, response in responses.items():
        if status[0] in "45":
            response.setdefault("content", PROBLEM_RESPONSES[400]["content"])
