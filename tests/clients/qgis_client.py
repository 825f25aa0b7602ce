"""What QGIS does, run by Debian's Python in a process of its own: tasks as JSON in, answers as JSON and arrays out."""

import json
import sys
from pathlib import Path

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsDateTimeRange,
    QgsIdentifyContext,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsRaster,
    QgsRasterDataProviderTemporalCapabilities,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMapToolIdentify
from qgis.PyQt.QtCore import QDateTime, QEventLoop, QSize, Qt
from qgis.PyQt.QtGui import QColor, QImage

# of Qgis.DataType, for numpy
TYPES = {1: "u1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "f8"}


class Tasks:
    """Each method is a task; its answer is written as JSON, and its arrays to files in `folder`.

    A `source` is the address and the provider of a layer; `bounds` are west, south, east, north.
    """

    def __init__(self, folder):
        self.folder = folder
        self.layers = {}

    def raster(self, source):
        """Return the layer of a source.

        Raises:
            ValueError: QGIS finds it not valid.
        """
        address, provider = source
        if (address, provider) not in self.layers:
            self.layers[address, provider] = QgsRasterLayer(address, "layer", provider)
        layer = self.layers[address, provider]
        if not layer.isValid():
            raise ValueError(layer.error().message(1))
        return layer

    def keep(self, array):
        name = f"{len(list(self.folder.glob('*.npy')))}.npy"
        np.save(self.folder / name, array)
        return name

    def describe(self, *, source):
        """Say what QGIS knows of a layer."""
        layer = self.raster(source)
        provider = layer.dataProvider()
        known, bands = provider.temporalCapabilities(), range(1, provider.bandCount() + 1)
        ranges = known.allAvailableTemporalRanges() if known.hasTemporalCapabilities() else []
        return {
            "crs": layer.crs().authid(),
            "extent": sides(layer.extent()),
            "size": [provider.xSize(), provider.ySize()],
            "bands": [len(bands), *(layer.bandName(band) for band in bands)],
            "nodata": [provider.sourceNoDataValue(band) if provider.sourceHasNoDataValue(band) else None for band in bands],
            "layers": provider.subLayers(),
            "about": provider.htmlMetadata(),
            "temporal": layer.temporalProperties().isActive(),
            "dates": [[said(each.begin()), said(each.end())] for each in ranges],
        }  # fmt: skip

    def render(
        self, *, source, crs, bounds, width, height, background, dates=None, timing=None, picture=None
    ):
        """Draw a layer as the map's canvas does; returns the pixels and the errors."""
        layer = self.raster(source)
        if timing is not None:
            method = getattr(QgsRasterDataProviderTemporalCapabilities, timing)
            layer.temporalProperties().setIntervalHandlingMethod(method)
        settings = QgsMapSettings()
        settings.setLayers([layer])
        settings.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
        settings.setOutputSize(QSize(width, height))
        settings.setExtent(QgsRectangle(*bounds))
        settings.setBackgroundColor(QColor(*background))
        settings.setFlag(QgsMapSettings.Antialiasing, False)
        if dates is not None:
            settings.setIsTemporal(True)
            settings.setTemporalRange(range_of(dates))
        job = QgsMapRendererParallelJob(settings)
        waiting = QEventLoop()
        job.finished.connect(waiting.quit)
        job.start()
        if job.isActive():
            waiting.exec_()
        image = job.renderedImage()
        if picture:
            image.save(picture)
        errors = [error.message for error in job.errors()]
        return {
            "pixels": self.keep(pixels(image)),
            "extent": sides(settings.visibleExtent()),
            "errors": errors,
        }

    def block(self, *, source, band):
        """Return the values of a whole band as QGIS reads them, and where it sees none."""
        provider = self.raster(source).dataProvider()
        width, height = provider.xSize(), provider.ySize()
        found = provider.block(band, provider.extent(), width, height)
        values = np.frombuffer(bytes(found.data()), TYPES[found.dataType()]).reshape(height, width)
        missing = np.array(
            [[found.isNoData(row, column) for column in range(width)] for row in range(height)]
        )
        error = found.error().message(1)
        return {"values": self.keep(values), "missing": self.keep(missing), "error": error}

    def identify(self, *, source, point, bounds, width, height, form):
        """Ask for the value at a point of a drawn map, as Text or Html; returns what is shown."""
        provider = self.raster(source).dataProvider()
        kind = getattr(QgsRaster, f"IdentifyFormat{form}")
        found = provider.identify(QgsPointXY(*point), kind, QgsRectangle(*bounds), width, height)
        return {"valid": found.isValid(), "results": found.results(), "error": found.error().message(1)}

    def click(self, *, source, crs, bounds, width, height, point, dates, form="Text"):
        """Click on a canvas that shows a range of dates, with the tool that identifies; returns what it lists."""
        layer, canvas = self.raster(source), QgsMapCanvas()
        canvas.resize(width, height)
        canvas.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
        canvas.setLayers([layer])
        canvas.setExtent(QgsRectangle(*bounds))
        canvas.setTemporalRange(range_of(dates))
        context = QgsIdentifyContext()
        context.setTemporalRange(canvas.temporalRange())
        place = canvas.getCoordinateTransform().transform(QgsPointXY(*point))
        tool = QgsMapToolIdentify(canvas)
        layer.setCustomProperty("identify/format", form)
        found = tool.identify(int(place.x()), int(place.y()), [layer], QgsMapToolIdentify.TopDownAll, context)
        if form == "Text":
            return {"results": {str(number): each.mAttributes[""] for number, each in enumerate(found)}}
        (feature,) = (each.mFeature for each in found)
        values = dict(zip(feature.fields().names(), map(plain, feature.attributes()), strict=True))
        return {"wkt": feature.geometry().asWkt(3), "fields": values}

    def legend(self, *, source):
        """Fetch the legend as the list of layers does; returns its pixels."""
        fetcher = self.raster(source).dataProvider().getLegendGraphicFetcher(QgsMapSettings())
        found, waiting = {}, QEventLoop()

        def finished(image):
            found["image"] = QImage(image)
            waiting.quit()

        def failed(message):
            found["error"] = message
            waiting.quit()

        fetcher.finish.connect(finished)
        fetcher.error.connect(failed)
        fetcher.start()
        if not found:
            waiting.exec_()
        return {"pixels": self.keep(pixels(found["image"]))} if "image" in found else found

    def features(self, *, address):
        """Read a vector layer: its fields, and each feature's place and values."""
        layer = QgsVectorLayer(address, "layer", "ogr")
        if not layer.isValid():
            raise ValueError(layer.error().message(1))
        return {
            "crs": layer.crs().authid(),
            "fields": {field.name(): field.typeName() for field in layer.fields()},
            "features": [
                {"wkt": feature.geometry().asWkt(9), "values": [plain(each) for each in feature.attributes()]}
                for feature in layer.getFeatures()
            ],
        }


def sides(rectangle):
    return [rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()]


def range_of(dates):
    return QgsDateTimeRange(*(QDateTime.fromString(text, Qt.ISODateWithMs) for text in dates))


def said(moment):
    return moment.toUTC().toString(Qt.ISODateWithMs)


def plain(value):
    if isinstance(value, QDateTime):
        return value.toString(Qt.ISODateWithMs)
    return value if isinstance(value, (int, float, str, list)) else None


def pixels(image):
    """Return an image as uint8 of (rows, columns, RGBA), not premultiplied."""
    image = image.convertToFormat(QImage.Format_RGBA8888)
    found = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), "u1")
    return found.reshape(image.height(), image.bytesPerLine() // 4, 4)[:, : image.width()].copy()


def main(folder):
    """Do the tasks of `tasks.json` in a folder, and write `answers.json` beside it."""
    gdal.UseExceptions()
    application = QgsApplication([], True)
    application.initQgis()
    log = []
    application.messageLog().messageReceived.connect(lambda text, tag, level: log.append([tag, level, text]))
    tasks, answers = Tasks(folder), []
    for task in json.loads((folder / "tasks.json").read_text()):
        log.clear()
        try:
            answer = getattr(tasks, task.pop("do"))(**task)
        except ValueError as error:
            answer = {"refused": str(error)}
        application.processEvents()
        answers.append({**answer, "log": list(log)})
    (folder / "answers.json").write_text(json.dumps(answers))
    tasks.layers.clear()
    application.exitQgis()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
