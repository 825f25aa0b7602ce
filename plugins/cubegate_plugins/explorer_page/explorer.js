// The page put together: what is chosen is the state, the state is the address, and the panels show it.

import { fetchArrows, hasFlow } from "./arrows.js";
import { BoxPanel } from "./box.js";
import { codeLines } from "./code_lines.js";
import { describe, listCubes } from "./cubes.js";
import { bindDrawing, fillDrawing } from "./drawing.js";
import { $, announce, copy, make, showProblem } from "./elements.js";
import { coarsest, legendAddress, openTileGrid, openTiles } from "./imagery.js";
import { CubeMap } from "./map.js";
import { place } from "./numbers.js";
import { fetchJson, pointNames } from "./requests.js";
import { colourOf, SeriesPanel } from "./series.js";
import { EMPTY, numbers, readState, writeState } from "./state.js";

const BASE = new URL(".", document.baseURI).href;
const MOST_POINTS = 8;

class Explorer {
  constructor() {
    this.state = { ...EMPTY };
    this.description = null;
    this.opened = 0;
    this.box = new BoxPanel();
    this.series = new SeriesPanel({
      remove: (index) => this.change({ points: this.state.points.filter((_, each) => each !== index) }),
      lost: (point, error) => {
        showProblem(error);
        if (!error.temporary) this.change({ points: this.state.points.filter((each) => each !== point) });
      },
    });
    this.map = new CubeMap($("map"), {
      pick: (at) => this.addPoint(at),
      box: (extent) => this.takeBox(extent),
      boxKey: () => $("box").focus(),
      move: (view) => this.moved(view),
      hover: (at, lonlat) => this.tellPosition(at, lonlat),
    });
    bindDrawing((part) => this.change(part), () => this);
    this.bindPlaces();
    window.addEventListener("hashchange", () => {
      if (window.location.hash !== writeState(this.state)) this.restore();
    });
  }

  async start() {
    const ids = await fetchJson("datasets");
    this.mark = listCubes(ids, (id) => this.open({ ...EMPTY, cube: id }, true));
    this.ids = ids;
    for (const id of ["place", "results"]) $(id).hidden = ids.length === 0;
    await this.restore();
  }

  restore() {
    const state = readState(window.location.hash);
    const first = state.cube || this.ids[0];
    return first === undefined ? undefined : this.open({ ...state, cube: first });
  }

  /** Open the cube of a state, and show the state as far as the cube has what it names; as a `step` that Back takes back. */
  async open(state, step = false) {
    const number = (this.opened += 1);
    showProblem(null);
    let description;
    try {
      description = await describe(state.cube);
      if (description.variables.length === 0) throw new Error("This cube has no numeric variables on a grid.");
    } catch (error) {
      if (number !== this.opened) return;
      showProblem(error);
      if (!this.description) this.mark(state.cube);
      return;
    }
    if (number !== this.opened) return;
    this.description = description;
    this.state = fillDrawing(description, state);
    this.tiles = null;
    this.arrowProblem = "";
    if (step) window.history.pushState(null, "", writeState(this.state));
    this.mark(state.cube);
    for (const id of ["place", "results"]) $(id).inert = false;
    $("cube-title").textContent = description.title;
    document.title = `${description.title}: cubegate`;
    const [first, second] = pointNames(description);
    $("point-x-label").textContent = first;
    $("point-y-label").textContent = second;
    $("box-label").textContent = first === "lon" ? "West, south, east, north in degrees" : `xmin, ymin, xmax, ymax in ${description.crs?.name ?? "the grid's own coordinates"}`;
    this.map.showTiles(null, null);
    this.map.open(description, state.view);
    this.showAll();
    announce(`${description.title} is open.`);
  }

  /** Change parts of the state, and show what that changes. */
  change(part) {
    if (!this.description) return;
    const before = this.state;
    this.state = { ...before, ...part };
    if ("variable" in part || "dimensions" in part) this.tiles = null;
    this.showAll(part);
  }

  showAll(part = null) {
    const { description, state } = this;
    const changed = (...names) => part === null || names.some((name) => name in part);
    this.write();
    const drawn = ["variable", "dimensions", "datetime", "colormap", "low", "high"];
    if (changed(...drawn)) this.drawPicture();
    if (changed("points", "variable", "dimensions", "datetime")) {
      this.map.drawPoints(state.points.map((at, index) => ({ place: at, colour: colourOf(index), number: index + 1 })));
      this.series.show(description, state).catch(showProblem);
    }
    if (changed("box", "boxDates", "variable", "dimensions", "datetime")) {
      $("box").value = state.box?.join(", ") ?? "";
      for (const radio of document.getElementsByName("box-dates")) radio.checked = radio.value === state.boxDates;
      this.map.drawBox(state.box);
      this.box.show(description, state);
    }
    if (changed("arrows", "datetime", "view")) this.drawArrows();
    this.showLines();
  }

  write() {
    window.history.replaceState(null, "", writeState(this.state));
  }

  async drawPicture() {
    const { description, state } = this;
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    this.showNote();
    if (!description.crs) {
      $("legend").hidden = true;
      return;
    }
    try {
      this.tiles ??= await openTileGrid(description, state);
      if (signal.aborted) return;
      const source = openTiles(description, state, this.map.way.projection, this.tiles, (url) => this.tellFailure(url));
      this.map.showTiles(source, this.tiles);
      this.showLegend();
    } catch (error) {
      $("legend").hidden = true;
      if (!signal.aborted) showProblem(error);
    }
  }

  showLegend() {
    const { description, state } = this;
    const { label, units } = description.variables.find((each) => each.name === state.variable);
    const legend = $("legend");
    legend.onload = () => { legend.hidden = false; };
    legend.onerror = () => { legend.hidden = true; };
    legend.alt = `Legend: ${label} ${units}`;
    legend.src = legendAddress(description, state);
  }

  async tellFailure(url) {
    try {
      await fetchJson(url);
    } catch (error) {
      showProblem(error);
    }
  }

  async drawArrows() {
    this.flowing?.abort();
    this.flowing = new AbortController();
    const shown = this.state.arrows && hasFlow(this.description) ? this.map.shown : null;
    let arrows = [];
    let problem = "";
    try {
      if (shown) arrows = await fetchArrows(this.description, this.state, shown, this.flowing.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      problem = error.message;
    }
    this.map.drawArrows(arrows);
    this.arrowProblem = problem;
    this.showNote();
  }

  addPoint(at) {
    if (!this.description) return;
    showProblem(null);
    const point = at.map(Number);
    if (this.state.points.some((each) => each.join() === point.join())) return;
    if (this.state.points.length >= MOST_POINTS) showProblem(new Error(`${MOST_POINTS} pixels are compared at most: remove one first.`));
    else this.change({ points: [...this.state.points, point] });
  }

  takeBox(extent) {
    this.draw(false);
    const cell = this.description.resolution?.[0] ?? 1e-4;
    this.change({ box: extent.map((value) => Number(place(value, cell))) });
  }

  draw(active) {
    this.map.drawing = active;
    $("draw-box").setAttribute("aria-pressed", String(active));
  }

  moved(view) {
    if (!this.description) return;
    this.state = { ...this.state, view };
    this.write();
    this.showNote();
    if (this.state.arrows) this.drawArrows();
  }

  /** Say over the map why it lacks something, and what to do. */
  showNote() {
    const { description, state, tiles } = this;
    const notes = [
      description.crs ? "" : "No picture can be drawn: nobody knows where on the Earth this cube lies. Series and boxes work in its own x and y. Whoever runs this server may set crs: in the cube's collection file.",
      tiles && state.view?.[2] > coarsest(tiles) ? "Zoom in: the picture of so large an area would cost too much." : "",
      this.arrowProblem,
    ];
    const text = notes.filter(Boolean).join(" ");
    if ($("map-note").textContent === text) return;
    $("map-note").textContent = text;
    $("map-note").hidden = text === "";
    if (text) announce(text);
  }

  tellPosition(at, lonlat) {
    const cell = this.description?.resolution?.[0] ?? 1e-4;
    const degrees = lonlat && pointNames(this.description)[0] === "x" ? ` (${lonlat[0].toFixed(5)}°, ${lonlat[1].toFixed(5)}°)` : "";
    $("position").textContent = `${place(at[0], cell)}, ${place(at[1], cell)}${degrees}`;
  }

  bindPlaces() {
    $("point-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const point = numbers(`${$("point-x").value},${$("point-y").value}`, 2);
      if (point) this.addPoint(point);
      else showProblem(new Error("A place is two numbers."));
    });
    $("box-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const box = numbers($("box").value, 4);
      if (box && box[0] < box[2] && box[1] < box[3]) this.takeBox(box);
      else showProblem(new Error("A box is four numbers: the smaller x and y, then the larger ones."));
    });
    $("view-box").addEventListener("click", () => {
      const shown = this.map.shown;
      if (shown) this.takeBox(shown);
      else showProblem(new Error("The map shows no part of the cube."));
    });
    $("remove-box").addEventListener("click", () => this.change({ box: null }));
    $("draw-box").addEventListener("click", () => this.draw($("draw-box").getAttribute("aria-pressed") !== "true"));
    $("whole").addEventListener("click", () => this.map.showWhole());
    $("copy-link").addEventListener("click", () => copy(window.location.href));
    for (const radio of document.getElementsByName("box-dates")) radio.addEventListener("change", () => this.change({ boxDates: radio.value }));
  }

  showLines() {
    const lines = codeLines(BASE, this.description, this.state);
    $("lines").replaceChildren(...lines.map(({ name, text }) =>
      make("div", {}, make("h3", {}, name), make("pre", { tabindex: "0" }, text), make("button", { type: "button", "aria-label": `Copy: ${name}`, onclick: () => copy(text) }, "Copy"))));
  }
}

new Explorer().start().catch(showProblem);
