"""OGC's own schemas of WMS, which MapProxy's package carries, and what they say of a document."""

from importlib.util import find_spec
from pathlib import Path

from lxml import etree

NEW, OLD = "1.3.0", "1.1.1"
WMS, OGC = "{http://www.opengis.net/wms}", "{http://www.opengis.net/ogc}"


def _folder():
    # found, not imported: only its files are of use
    spec = find_spec("mapproxy")
    assert spec is not None, "pip install mapproxy, as the extra cubegate[dev] does"
    return Path(spec.submodule_search_locations[0]) / "test" / "schemas" / "wms"


def _parse(content):
    # neither the DTD that a document names nor anything else is fetched
    return etree.fromstring(content, etree.XMLParser(no_network=True, load_dtd=False))


class WMSSchemas:
    """The XSD files of 1.3.0 and the DTD files of 1.1.1."""

    def __init__(self):
        folder = _folder()
        self._capabilities = {
            NEW: etree.XMLSchema(etree.parse(folder / NEW / "capabilities_1_3_0.xsd")),
            OLD: etree.DTD(str(folder / OLD / "WMS_MS_Capabilities.dtd")),
        }
        self._exceptions = {
            NEW: etree.XMLSchema(etree.parse(folder / NEW / "exceptions_1_3_0.xsd")),
            OLD: etree.DTD(str(folder / OLD / "exception_1_1_1.dtd")),
        }

    def capabilities(self, content, version):
        """Check the bytes of capabilities; returns the root element."""
        return self._checked(self._capabilities[version], content, version)

    def exception(self, content, version):
        """Check the bytes of an exception report; returns the root element."""
        return self._checked(self._exceptions[version], content, version)

    @staticmethod
    def _checked(schema, content, version):
        root = _parse(content)
        assert root.get("version") == version
        assert schema.validate(root), [str(error) for error in schema.error_log]
        return root
