// The map: the cube in its own CRS, a graticule, the pixels and the box that are chosen, and flow arrows.

import { underWay } from "./elements.js";
import { graticule, labelPlace } from "./graticule.js";
import { coarsest } from "./imagery.js";
import { openProjection } from "./projection.js";

const { ol } = globalThis;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class CubeMap {
  /** `target` is the element; `on` has `pick(place)`, `box(extent)`, `move(view)`, `hover(place, lonlat)`. */
  constructor(target, on) {
    this.target = target;
    this.on = on;
    this.vectors = {};
    this.tiles = new ol.layer.Tile({ className: "imagery" });
    const layers = ["graticule", "outline", "arrows", "box", "points"].map((name) => {
      this.vectors[name] = new ol.source.Vector();
      return new ol.layer.Vector({ source: this.vectors[name], declutter: name === "graticule", updateWhileInteracting: true });
    });
    this.map = new ol.Map({
      target,
      layers: [this.tiles, ...layers],
      controls: ol.control.defaults.defaults({ attribution: false, rotate: false }).extend([new ol.control.ScaleLine()]),
      interactions: ol.interaction.defaults.defaults({ altShiftDragRotate: false, pinchRotate: false }),
    });
    // their text is only a sign
    for (const button of target.querySelectorAll(".ol-zoom button")) button.setAttribute("aria-label", button.title);
    this.dragBox = new ol.interaction.DragBox({ condition: ol.events.condition.always });
    this.dragBox.setActive(false);
    this.map.addInteraction(this.dragBox);
    this.dragBox.on("boxend", () => on.box(this.dragBox.getGeometry().getExtent()));
    this.map.on("singleclick", (event) => !this.dragBox.getActive() && on.pick(event.coordinate));
    this.map.on("pointermove", (event) => on.hover(event.coordinate, this.way?.toLonLat?.(event.coordinate) ?? null));
    this.map.on("moveend", () => this.moved());
    target.addEventListener("keydown", (event) => this.key(event));
    target.addEventListener("focus", () => target.classList.toggle("keyboard", target.matches(":focus-visible")));
    target.addEventListener("blur", () => target.classList.remove("keyboard"));
    window.addEventListener("themechange", () => this.redraw());
    this.map.on("loadstart", () => this.load(true));
    this.map.on("loadend", () => this.load(false));
  }

  load(loading) {
    if (loading !== Boolean(this.loading)) underWay(loading ? 1 : -1);
    this.loading = loading;
  }

  /** Show another cube; `view` is [x, y, resolution] or null for the whole. */
  open(description, view) {
    this.description = description;
    this.way = openProjection(description);
    // without a CRS nobody knows how long a unit is
    this.target.classList.toggle("unscaled", !description.crs);
    const extent = description.extent.native;
    const size = Math.max(extent[2] - extent[0], extent[3] - extent[1]);
    const [across, down] = this.map.getSize() ?? [600, 400];
    const whole = Math.max((extent[2] - extent[0]) / across, (extent[3] - extent[1]) / down) * 1.08;
    const centre = [(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2];
    this.whole = [...centre, whole];
    const cell = description.resolution ? Math.min(...description.resolution) : size / 1e5;
    this.map.setView(new ol.View({
      projection: this.way.projection,
      center: view ? view.slice(0, 2) : centre,
      resolution: view ? view[2] : whole,
      minResolution: Math.min(cell / 16, whole),
      maxResolution: whole * 3,
      extent: ol.extent.buffer(extent, size),
      constrainOnlyCenter: true,
      smoothExtentConstraint: false,
    }));
    this.redraw();
  }

  showWhole() {
    const [x, y, resolution] = this.whole;
    this.map.getView().setCenter([x, y]);
    this.map.getView().setResolution(resolution);
  }

  get view() {
    const view = this.map.getView();
    return [...view.getCenter(), view.getResolution()];
  }

  /** What the map shows of the cube; null where it shows none of it. */
  get shown() {
    const seen = ol.extent.getIntersection(this.map.getView().calculateExtent(this.map.getSize()), this.description.extent.native);
    return ol.extent.isEmpty(seen) ? null : seen;
  }

  showTiles(source, tiles) {
    this.tiles.setSource(source);
    this.tiles.setExtent(source ? this.description.extent.native : undefined);
    this.tiles.setMaxResolution(source ? coarsest(tiles) : Infinity);
  }

  moved() {
    if (!this.description) return;
    this.drawGraticule();
    this.on.move(this.view);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== this.target) return;
    if (event.key === "Enter") this.on.pick(this.map.getView().getCenter());
    else if (event.key.toLowerCase() === "b") this.on.boxKey();
    else return;
    event.preventDefault();
  }

  set drawing(active) {
    this.dragBox.setActive(active);
    this.target.style.cursor = active ? "crosshair" : "";
  }

  redraw() {
    if (!this.description) return;
    this.drawGraticule();
    this.drawOutline();
    this.drawPoints(this.points ?? []);
    this.drawBox(this.box ?? null);
    this.drawArrows(this.arrows ?? []);
  }

  drawGraticule() {
    const source = this.vectors.graticule;
    source.clear(true);
    if (!this.way.toLonLat || !this.map.getSize()) return;
    const extent = this.map.getView().calculateExtent(this.map.getSize());
    const strokes = [["--map", 2], ["--graticule", 1]].map(([name, width]) =>
      new ol.style.Style({ stroke: new ol.style.Stroke({ color: colour(name), width, lineDash: [4, 4] }) }));
    for (const line of graticule(extent, this.way)) {
      const feature = new ol.Feature(new ol.geom.LineString(line.places));
      feature.setStyle(strokes);
      source.addFeature(feature);
      const place = labelPlace(line, extent, this.map.getView().getResolution());
      if (!place) continue;
      const label = new ol.Feature(new ol.geom.Point(place));
      label.setStyle(new ol.style.Style({ text: new ol.style.Text({
        text: line.text, font: "12px system-ui, sans-serif", overflow: true,
        fill: new ol.style.Fill({ color: colour("--text") }), stroke: new ol.style.Stroke({ color: colour("--map"), width: 3 }),
      }) }));
      source.addFeature(label);
    }
  }

  drawOutline() {
    const source = this.vectors.outline;
    source.clear(true);
    const style = new ol.style.Style({ stroke: new ol.style.Stroke({ color: colour("--text"), width: 1.2 }) });
    const rings = this.description.members.map((member) => member.outline).filter(Boolean);
    const geometries = rings.length ? rings.map((ring) => new ol.geom.Polygon([ring])) : [polygonOf(this.description.extent.native)];
    for (const geometry of geometries) {
      const feature = new ol.Feature(geometry);
      feature.setStyle(style);
      source.addFeature(feature);
    }
  }

  /** Mark pixels, each {place, colour, number}. */
  drawPoints(points) {
    this.points = points;
    const source = this.vectors.points;
    source.clear(true);
    for (const point of points) {
      const feature = new ol.Feature(new ol.geom.Point(point.place));
      feature.setStyle(new ol.style.Style({
        image: new ol.style.Circle({ radius: 7, fill: new ol.style.Fill({ color: point.colour }), stroke: new ol.style.Stroke({ color: "#fff", width: 2 }) }),
        text: new ol.style.Text({ text: String(point.number), font: "bold 13px system-ui, sans-serif", offsetY: -16, fill: new ol.style.Fill({ color: colour("--text") }), stroke: new ol.style.Stroke({ color: colour("--map"), width: 3 }) }),
      }));
      source.addFeature(feature);
    }
  }

  drawBox(extent) {
    this.box = extent;
    this.vectors.box.clear(true);
    if (!extent) return;
    const feature = new ol.Feature(polygonOf(extent));
    feature.setStyle([
      new ol.style.Style({ stroke: new ol.style.Stroke({ color: colour("--map"), width: 5 }) }),
      new ol.style.Style({ stroke: new ol.style.Stroke({ color: colour("--accent"), width: 2.5 }) }),
    ]);
    this.vectors.box.addFeature(feature);
  }

  /** Draw arrows, each [[x, y] of its tail, [x, y] of its head, and of both ends of its point]. */
  drawArrows(arrows) {
    this.arrows = arrows;
    this.vectors.arrows.clear(true);
    const style = [
      new ol.style.Style({ stroke: new ol.style.Stroke({ color: "rgba(255,255,255,.8)", width: 3.5 }) }),
      new ol.style.Style({ stroke: new ol.style.Stroke({ color: "#111", width: 1.5 }) }),
    ];
    for (const [tail, head, left, right] of arrows) {
      const feature = new ol.Feature(new ol.geom.MultiLineString([[tail, head], [left, head, right]]));
      feature.setStyle(style);
      this.vectors.arrows.addFeature(feature);
    }
  }
}

function polygonOf([west, south, east, north]) {
  return new ol.geom.Polygon([[[west, south], [east, south], [east, north], [west, north], [west, south]]]);
}
