// Slices on a plain canvas, for browsers without WebGL 2: the same planes, keys and overlay as in NiiVue, no 3-D.
const GAP = 8; // pixels between panes
const ENDS = [["L", "R"], ["P", "A"], ["I", "S"]]; // of each axis

class Planes {
  constructor(canvas, pick) {
    this.canvas = canvas;
    this.panes = [];
    canvas.addEventListener("pointerdown", (e) => this.point(e, pick));
    canvas.addEventListener("pointermove", (e) => e.buttons && this.point(e, pick));
    canvas.addEventListener("wheel", (e) => this.scroll(e, pick), { passive: false });
  }

  static views = ["planes", "axial", "coronal", "sagittal"];

  draw(scan, state) {
    Object.assign(this, { scan, state });
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    this.panes = this.layout();
    for (const pane of this.panes) this.paint(context, pane, ratio);
  }

  // Of the panes side by side, one beside a column of the others, or all in a column: where they are largest.
  layout() {
    const { canvas, scan, state } = this;
    const axes = { planes: [2, 1, 0], axial: [2], coronal: [1], sagittal: [0] }[state.view];
    const panes = axes.map((axis) => {
      const [u, v] = [0, 1, 2].filter((a) => a !== axis);
      return { axis, u, v, width: scan.shape[u] * scan.spacing[u], height: scan.shape[v] * scan.spacing[v] };
    });
    const ways = [panes.map((pane) => [pane]), [[panes[0]], panes.slice(1)], [panes]].map((columns) => {
      const widths = columns.map((column) => Math.max(0, ...column.map((p) => p.width)));
      const heights = columns.map((column) => column.reduce((sum, p) => sum + p.height, 0));
      const rows = Math.max(...columns.map((column) => column.length));
      const width = widths.reduce((sum, w) => sum + w, 0);
      const across = (canvas.width - GAP * (columns.length + 1)) / width;
      const down = (canvas.height - GAP * (rows + 1)) / Math.max(...heights);
      return { columns, widths, heights, width, scale: Math.min(across, down) };
    });
    const { columns, widths, heights, width, scale } = ways.reduce((best, way) => (way.scale > best.scale ? way : best));
    let left = (canvas.width - scale * width - GAP * (columns.length - 1)) / 2;
    columns.forEach((column, n) => {
      let top = (canvas.height - scale * heights[n] - GAP * (column.length - 1)) / 2;
      for (const pane of column) {
        const inset = (scale * (widths[n] - pane.width)) / 2;
        Object.assign(pane, { left: left + inset, top, width: scale * pane.width, height: scale * pane.height });
        top += pane.height + GAP;
      }
      left += scale * widths[n] + GAP;
    });
    return panes;
  }

  paint(context, pane, ratio) {
    const { left, top, width, height, u, v } = pane;
    const { at } = this.state;
    context.drawImage(this.slice(pane), left, top, width, height);
    const x = left + ((at[u] + 0.5) / this.scan.shape[u]) * width;
    const y = top + (1 - (at[v] + 0.5) / this.scan.shape[v]) * height;
    context.strokeStyle = "rgba(255, 120, 60, 0.8)";
    context.lineWidth = ratio;
    context.strokeRect(x, top, 0, height);
    context.strokeRect(left, y, width, 0);
    context.fillStyle = "#bbb";
    context.font = `${12 * ratio}px sans-serif`;
    const put = (text, align, baseline, px, py) => {
      Object.assign(context, { textAlign: align, textBaseline: baseline });
      context.fillText(text, px, py);
    };
    put(ENDS[u][0], "left", "middle", left + 2, top + height / 2);
    put(ENDS[u][1], "right", "middle", left + width - 2, top + height / 2);
    put(ENDS[v][1], "center", "top", left + width / 2, top + 2);
    put(ENDS[v][0], "center", "bottom", left + width / 2, top + height - 2);
  }

  slice({ axis, u, v }) {
    const { scan, state } = this;
    const [columns, rows] = [scan.shape[u], scan.shape[v]];
    const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const [base, over] = [scan.volumes[state.image], state.overlay && scan.volumes.std];
    const [map, colours] = [state.maps[base.colours], state.maps.overlay];
    const at = [...state.at];
    for (let row = 0, p = 0; row < rows; row++) {
      at[v] = rows - 1 - row;
      for (let column = 0; column < columns; column++, p += 4) {
        at[u] = column;
        const grey = map[base.voxels[base.index(at)]];
        const spread = over ? over.voxels[over.index(at)] : 0;
        const share = over ? (state.opacity * spread) / 255 : 0;
        for (let c = 0; c < 3; c++) image.data[p + c] = (1 - share) * grey[c] + share * colours[spread][c];
        image.data[p + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.canvas.width;
    const y = ((event.clientY - box.top) / box.height) * this.canvas.height;
    const pane = this.panes.find((p) => x >= p.left && x < p.left + p.width && y >= p.top && y < p.top + p.height);
    return [pane, x, y];
  }

  point(event, pick) {
    const [pane, x, y] = this.under(event);
    if (!pane) return;
    const at = [...this.state.at];
    at[pane.u] = Math.floor(((x - pane.left) / pane.width) * this.scan.shape[pane.u]);
    at[pane.v] = Math.floor((1 - (y - pane.top) / pane.height) * this.scan.shape[pane.v]);
    pick(at);
  }

  scroll(event, pick) {
    const [pane] = this.under(event);
    if (!pane) return;
    event.preventDefault();
    const at = [...this.state.at];
    at[pane.axis] -= Math.sign(event.deltaY);
    pick(at);
  }
}
