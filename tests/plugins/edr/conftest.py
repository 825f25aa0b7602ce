"""The standard's schemas, and a client of `/edr`."""

import json
from pathlib import Path

import jsonschema
import pytest
import referencing
from openapi_schema_validator import OAS30Validator
from tests.covjson_schema import SCHEMAS, covjson_validator

CONFORMANCE = Path(__file__).parents[4] / "shared" / "data" / "conformance"

BUNDLED = CONFORMANCE / "ogc_edr" / "ogcapi-environmental-data-retrieval-1.bundled.json"


@pytest.fixture
def edr(server):
    """`ask(path, status=200, **parameters)` below `/edr`; `_` in a name is `-`."""
    root = str(server.client.base_url).removesuffix("/datasets/")

    def ask(path="", status=200, headers=None, **parameters):
        query = {name.replace("_", "-"): value for name, value in parameters.items()}
        answer = server.client.get(f"{root}/edr{path}", params=query, headers=headers or {})
        assert answer.status_code == status, answer.text
        return answer

    return ask


def any_of_several(validator, forms, instance, schema):
    """Check `oneOf` as `anyOf`.

    The bundled schemas refuse each CoverageJSON document otherwise, the standard's own examples too: a domain
    with x and y meets both forms of axes, and an array of numbers two of its four.
    """
    return OAS30Validator.VALIDATORS["anyOf"](validator, forms, instance, schema)


EDRValidator = jsonschema.validators.extend(OAS30Validator, {"oneOf": any_of_several})


def mend(document):
    """Write out a schema that references lead through, and allow the geographic reference systems that it forgot."""
    collections = document["paths"]["/collections"]["get"]["responses"]["200"]["content"]["application/json"]
    one = document["paths"]["/collections/{collectionId}"]["get"]["responses"]["200"]["content"]
    collections["schema"]["properties"]["collections"]["items"] = one["application/json"]["schema"]
    content = document["paths"]["/collections/{collectionId}/area"]["get"]["responses"]["200"]["content"]
    coverage = content["application/vnd.cov+json"]["schema"]["properties"]
    del coverage["referencing"]["items"]["properties"]["system"]["oneOf"]
    return document


@pytest.fixture(scope="module")
def schemas():
    """Skip where there are no schemas to hold anything to."""
    if not (BUNDLED.is_file() and SCHEMAS.is_dir()):
        pytest.skip("the OGC schemas are not here")


@pytest.fixture(scope="module")
def conforms():
    """Check a document against the OGC EDR 1.1 schema of an address and media type, where that is here."""
    if not BUNDLED.is_file():
        return lambda *_: None
    document = mend(json.loads(BUNDLED.read_text("utf-8")))
    registry = referencing.Registry().with_resource(
        "urn:edr", referencing.Resource(document, referencing.jsonschema.DRAFT4)
    )

    def check(found, address, media_type="application/json"):
        path = address.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
        kind = media_type.replace("/", "~1").replace("+", "%2B")
        reference = f"urn:edr#/paths/{path}/get/responses/200/content/{kind}/schema"
        EDRValidator({"$ref": reference}, registry=registry).validate(found)

    return check


@pytest.fixture(scope="module")
def is_covjson(conforms):
    """Check a document against the CoverageJSON schemas, and against that of EDR, where they are here."""
    if not SCHEMAS.is_dir():
        return lambda _: None
    validator = covjson_validator()

    def check(found):
        validator.validate(found)
        conforms(found, "/collections/{collectionId}/area", "application/vnd.cov+json")

    return check
