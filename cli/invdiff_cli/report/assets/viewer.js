// The controls of the viewer, and the keys: one state, drawn by NiiVue or on a plain canvas.
const AXES = ["sagittal", "coronal", "axial"]; // across the axes to the right, front and top
const LEAP = 5; // slices, of page up and page down

class Viewer {
  constructor(root, content) {
    this.root = root;
    this.content = content;
    this.find = (name) => root.querySelector(`#viewer-${name}`);
    this.state = { maps: content.maps, image: "mean", view: "planes", overlay: true, opacity: 1, at: [0, 0, 0] };
  }

  async start() {
    this.root.hidden = false;
    try {
      this.drawing = await Gl.on(this.find("canvas"), (at) => this.move(at), this.content.maps);
      this.find("how").textContent = "Drawn by NiiVue with WebGL 2. Drag in a plane to move the cross, in the rendering to turn it.";
    } catch (reason) {
      this.fallBack(reason.message);
    }
    this.find("canvas").addEventListener("webglcontextlost", () => this.lost());
    this.fill("view", this.drawing.constructor.views);
    this.listen();
    await this.open(0);
  }

  fallBack(reason) {
    const fresh = this.find("canvas").cloneNode(false); // a canvas keeps the kind of its first context
    fresh.removeAttribute("style");
    this.find("canvas").replaceWith(fresh);
    this.drawing = new Planes(fresh, (at) => this.move(at));
    this.find("how").textContent = `Plain slices: the 3-D view needs WebGL 2, which this browser does not offer (${reason}).`;
    new ResizeObserver(() => this.draw()).observe(fresh);
  }

  lost() {
    this.fallBack("it was lost");
    this.fill("view", Planes.views);
    this.state.view = "planes";
    this.draw();
  }

  async open(number) {
    this.scan = await Scan.read(this.content.scans[number]);
    this.state.at = [...this.scan.start];
    this.state.image = "mean";
    this.fill("image", this.scan.images.map((image) => image.role), this.scan.images.map((image) => image.title));
    this.find("image").value = "mean";
    this.legend(this.scan.volumes.std);
    AXES.forEach((name, axis) => (this.find(name).max = this.scan.shape[axis]));
    await this.drawing.load?.(this.scan);
    this.draw();
    this.root.dataset.ready = "yes";
  }

  legend(std) {
    for (const name of ["overlay", "opacity"]) this.find(name).disabled = !std;
    const colours = this.content.maps.overlay.map((c, shade) => `rgb(${c.join(" ")} / ${shade / 255})`);
    this.find("bar").style.backgroundImage = std ? `linear-gradient(to right, ${colours.join(", ")})` : "none";
    for (const end of ["low", "high"]) this.find(end).textContent = std ? std[end].toPrecision(3) : "";
  }

  fill(name, values, titles = values) {
    const select = this.find(name);
    const words = { planes: "three planes", "3d": "3-D rendering" };
    select.replaceChildren(...values.map((v, n) => new Option(words[v] ?? titles[n], v)));
  }

  listen() {
    const { state } = this;
    const on = (name, set) => {
      this.find(name)?.addEventListener("input", (e) => {
        set(e.target);
        this.draw();
      });
    };
    on("image", (e) => (state.image = e.value));
    on("view", (e) => (state.view = e.value));
    on("overlay", (e) => (state.overlay = e.checked));
    on("opacity", (e) => (state.opacity = e.value / 100));
    this.find("scan")?.addEventListener("input", (e) => this.open(Number(e.target.value)));
    AXES.forEach((name, axis) => on(name, (e) => (state.at[axis] = e.value - 1)));
    // Before NiiVue's own keys, which differ from what the page says.
    this.find("stage").addEventListener("keydown", (e) => this.press(e), true);
    this.find("stage").addEventListener("keyup", (e) => e.stopPropagation(), true);
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const steps = {
      ArrowUp: [2, 1], ArrowDown: [2, -1], PageUp: [2, LEAP], PageDown: [2, -LEAP],
      ArrowRight: [0, 1], ArrowLeft: [0, -1], "]": [1, 1], "[": [1, -1],
      Home: [2, -Infinity], End: [2, Infinity],
    };
    if (event.key in steps) {
      const [axis, by] = steps[event.key];
      const at = [...this.state.at];
      at[axis] += by;
      this.move(at);
    } else if (event.key === "u" && this.scan.volumes.std) {
      this.find("overlay").click();
    } else if (event.key === "v") {
      const images = this.scan.images.map((image) => image.role);
      this.state.image = images[(images.indexOf(this.state.image) + 1) % images.length];
      this.find("image").value = this.state.image;
      this.draw();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  move(at) {
    if (!this.scan) return;
    const inside = at.map((k, axis) => Math.min(Math.max(k, 0), this.scan.shape[axis] - 1));
    if (inside.every((k, axis) => k === this.state.at[axis])) return;
    this.state.at = inside;
    this.draw();
  }

  draw() {
    if (!this.scan) return;
    const { scan, state } = this;
    AXES.forEach((name, axis) => {
      const text = `${state.at[axis] + 1} of ${scan.shape[axis]}`;
      this.find(name).value = state.at[axis] + 1;
      this.find(name).setAttribute("aria-valuetext", text);
      this.find(`${name}-value`).textContent = text;
    });
    const place = scan.millimetres(state.at).map((x) => x.toFixed(0)).join(", ");
    const values = Object.values(scan.volumes).map((v) => `${v.title} ${v.value(state.at).toPrecision(3)}`);
    this.find("place").textContent = `At ${place} mm: ${values.join(" · ")}`;
    this.drawing.draw(scan, state);
  }
}

const root = document.getElementById("viewer");
const viewer = new Viewer(root, JSON.parse(document.getElementById("viewer-data").textContent));
viewer.start().catch((reason) => {
  viewer.find("stage").hidden = true;
  root.dataset.ready = "no";
  viewer.find("how").textContent = `The viewer does not run in this browser (${reason.message}); the pictures below need none.`;
});
