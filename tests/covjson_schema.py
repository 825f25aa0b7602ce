"""The schemas of CoverageJSON, where the folder of real files is beside the project."""

import json
from pathlib import Path

import jsonschema
import referencing

SCHEMAS = Path(__file__).parents[2] / "shared" / "data" / "conformance" / "covjson" / "validator" / "schemas"


def covjson_validator():
    """Return what checks a document; the schemas must be there."""
    contents = [json.loads(file.read_text()) for file in SCHEMAS.glob("*.json")]
    registry = referencing.Registry().with_resources(
        (content["$id"], referencing.Resource(content, referencing.jsonschema.DRAFT202012))
        for content in contents
    )
    schema = next(content for content in contents if content["$id"] == "/schemas/coveragejson")
    return jsonschema.Draft202012Validator(schema, registry=registry)
