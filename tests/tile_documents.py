"""What TileJSON 3.0, OGC API - Tiles and Two Dimensional Tile Matrix Set say of their documents."""

import jsonschema
import morecantile
import numpy as np

VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"}
ZOOM = {"type": "integer", "minimum": 0, "maximum": 30}
# for tiles that are pictures, which have no `vector_layers`
TILEJSON = {
    "type": "object",
    "required": ["tilejson", "tiles"],
    "properties": {
        "tilejson": {"const": "3.0.0"},
        "tiles": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": r"^https?://.*\{z\}/\{x\}/\{y\}"}},
        "bounds": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}},
        "center": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}},
        "minzoom": ZOOM,
        "maxzoom": ZOOM,
        "scheme": {"enum": ["xyz", "tms"]},
        "version": VERSION,
        **{name: {"type": "string"} for name in ("name", "description", "attribution", "legend", "template")},
    },
}  # fmt: skip
LINK = {
    "type": "object",
    "required": ["href", "rel"],
    "properties": {
        **{name: {"type": "string"} for name in ("href", "rel", "type", "title", "hreflang")},
        "templated": {"type": "boolean"},
    },
}
CRS = {
    "oneOf": [
        {"type": "string", "format": "uri"},
        {"type": "object", "required": ["uri"]},
        {"type": "object", "required": ["wkt"], "properties": {"wkt": {"type": "object"}}},
    ]
}
POINT = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
COUNT = {"type": "integer", "minimum": 0}
SUMMARY = {
    "type": "object",
    "required": ["dataType", "crs", "links"],
    "properties": {
        "title": {"type": "string"},
        "dataType": {"enum": ["map", "vector", "coverage"]},
        "crs": CRS,
        "tileMatrixSetURI": {"type": "string", "format": "uri"},
        "links": {"type": "array", "items": LINK},
    },
}
TILESET = {
    **SUMMARY,
    "properties": {
        **SUMMARY["properties"],
        "tileMatrixSetLimits": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tileMatrix", "minTileRow", "maxTileRow", "minTileCol", "maxTileCol"],
                "properties": {
                    "tileMatrix": {"type": "string"},
                    **{f"{end}Tile{way}": COUNT for end in ("min", "max") for way in ("Row", "Col")},
                },
            },
        },
        "boundingBox": {
            "type": "object",
            "required": ["lowerLeft", "upperRight"],
            "properties": {"lowerLeft": POINT, "upperRight": POINT, "crs": CRS},
        },
        "layers": {"type": "array", "items": {"type": "object", "required": ["id", "dataType"]}},
    },
}
SCHEME = "http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme"


def check_tilejson(found):
    """Check what the schema says, and what only the text does."""
    jsonschema.validate(found, TILEJSON)
    west, south, east, north = found["bounds"]
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    longitude, latitude, zoom = found["center"]
    assert west <= longitude <= east
    assert south <= latitude <= north
    assert isinstance(zoom, int)
    assert found["minzoom"] <= zoom <= found["maxzoom"]


def check_summary(found):
    """Check an entry of a list of tilesets."""
    jsonschema.validate(found, SUMMARY)
    relations = {link["rel"] for link in found["links"]}
    assert "self" in relations
    # the one that is registered, or where it is defined
    assert "tileMatrixSetURI" in found or SCHEME in relations


def check_tileset(found):
    """Check the metadata of a tileset."""
    check_summary(found)
    jsonschema.validate(found, TILESET)
    item = next(link for link in found["links"] if link["rel"] == "item")
    assert item["templated"]
    assert all(f"{{{name}}}" in item["href"] for name in ("tileMatrix", "tileRow", "tileCol"))


def read_matrix_set(found):
    """Check a tile matrix set by morecantile's model, and a registered one by its definition; returns the model."""
    model = morecantile.TileMatrixSet.model_validate(found)
    if found["id"] in ("WebMercatorQuad", "WorldCRS84Quad"):
        known = morecantile.tms.get(found["id"])
        assert (str(model.uri), model.orderedAxes) == (str(known.uri), known.orderedAxes)
        assert model.crs._pyproj_crs.equals(known.crs._pyproj_crs)
        for one, other in zip(model.tileMatrices, known.tileMatrices, strict=False):
            assert (one.id, one.matrixWidth, one.matrixHeight, one.tileWidth, one.tileHeight, one.cornerOfOrigin) == (
                other.id, other.matrixWidth, other.matrixHeight, other.tileWidth, other.tileHeight, other.cornerOfOrigin
            )  # fmt: skip
            np.testing.assert_allclose(one.pointOfOrigin, other.pointOfOrigin, rtol=1e-9)
            np.testing.assert_allclose(
                [one.scaleDenominator, one.cellSize], [other.scaleDenominator, other.cellSize], rtol=1e-9
            )
    return model
