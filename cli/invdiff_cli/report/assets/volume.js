// What the page carries: gzipped, in base64. Volumes are NIfTI of one byte a voxel, the first axis fastest.
const OFFSET = 352; // of the voxels

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

class Volume {
  constructor(image, file, shape) {
    Object.assign(this, { title: image.title, role: image.role, colours: image.colours });
    Object.assign(this, { low: image.low, high: image.high, file, shape });
    this.voxels = file.subarray(OFFSET);
  }

  index([x, y, z]) {
    return x + this.shape[0] * (y + this.shape[1] * z);
  }

  value(at) {
    return this.low + (this.voxels[this.index(at)] / 255) * (this.high - this.low);
  }
}

class Scan {
  static async read(content) {
    const scan = Object.assign(new Scan(), content);
    const files = await Promise.all(content.images.map((image) => inflate(image.nifti)));
    const volumes = content.images.map((image, n) => new Volume(image, files[n], content.shape));
    scan.volumes = Object.fromEntries(volumes.map((v) => [v.role, v]));
    return scan;
  }

  millimetres(at) {
    return this.affine.slice(0, 3).map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
  }
}
