// NiiVue: the planes and a 3-D rendering by WebGL 2.
const SHADES = Array.from({ length: 256 }, (_, n) => n);

class Gl {
  static views = ["planes", "axial", "coronal", "sagittal", "3d"];

  static async on(canvas, pick, maps) {
    if (!canvas.getContext("webgl2")) throw new Error("no WebGL 2");
    await unpackNiivue();
    const self = new Gl();
    self.nv = new niivue.Niivue({
      logLevel: "error",
      dragAndDropEnabled: false,
      isColorbar: false,
      crosshairColor: [1, 0.47, 0.24, 0.8],
      crosshairWidth: 0.4,
      crosshairWidthUnit: "mm",
      fontColor: [0.75, 0.75, 0.75, 1],
      isNearestInterpolation: true,
      multiplanarPadPixels: GAP,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
    });
    const channels = (map) => ({ R: map.map((c) => c[0]), G: map.map((c) => c[1]), B: map.map((c) => c[2]), I: SHADES });
    self.nv.addColormap("base-gray", { ...channels(maps.gray), A: SHADES.map((n) => n / 2) });
    self.nv.addColormap("base-magma", { ...channels(maps.magma), A: SHADES.map((n) => n / 2) });
    self.nv.addColormap("overlay", { ...channels(maps.overlay), A: SHADES });
    self.nv.onLocationChange = (place) => pick(place.vox.map(Math.round));
    await self.nv.attachToCanvas(canvas, false);
    canvas.tabIndex = -1; // the stage around it has the keys
    self.nv.setRenderAzimuthElevation(145, 35);
    return self;
  }

  async load(scan) {
    const open = (volume, colormap) =>
      niivue.NVImage.loadFromFile({
        file: new File([volume.file], `${volume.role}.nii`),
        name: `${volume.role}.nii`,
        colormap,
        cal_min: volume.low,
        cal_max: volume.high,
      });
    const volumes = Object.values(scan.volumes);
    const bases = await Promise.all(volumes.map((v) => open(v, `base-${v.colours}`)));
    this.bases = Object.fromEntries(volumes.map((v, n) => [v.role, bases[n]]));
    this.overlay = scan.volumes.std ? await open(scan.volumes.std, "overlay") : null;
    // By itself: little uncertainty lets the image through. NiiVue does not heed the colour map's own transparency here.
    if (this.overlay) Object.assign(this.overlay, { modulationImage: 1, modulateAlpha: 1 });
    this.drawn = null;
  }

  draw(scan, state) {
    const { nv, bases, overlay } = this;
    if (!bases) return; // still loading
    const base = bases[state.image];
    const layers = JSON.stringify([state.image, state.overlay, state.opacity]);
    if (overlay) overlay.opacity = state.overlay ? state.opacity : 0;
    nv.opts.sliceType = {
      planes: niivue.SLICE_TYPE.MULTIPLANAR,
      axial: niivue.SLICE_TYPE.AXIAL,
      coronal: niivue.SLICE_TYPE.CORONAL,
      sagittal: niivue.SLICE_TYPE.SAGITTAL,
      "3d": niivue.SLICE_TYPE.RENDER,
    }[state.view];
    if (layers !== this.drawn) {
      nv.volumes = overlay ? [base, overlay] : [base];
      [nv.back, nv.overlays] = [base, nv.volumes.slice(1)];
      nv.updateGLVolume();
      this.drawn = layers;
    }
    nv.scene.crosshairPos = nv.vox2frac(state.at);
    nv.drawScene();
  }
}

// As a script of the page, which its content security policy knows by checksum.
async function unpackNiivue() {
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await inflate(document.getElementById("niivue").textContent));
  document.head.append(script);
  if (typeof niivue === "undefined") throw new Error("NiiVue was not allowed to run");
}
