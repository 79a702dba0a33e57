import { boundsOf, type Mark } from "./strokes.ts";
import type { Box, Size } from "./boxes.ts";

/** In pixels: of the longer side of a painted shape. */
const SIDE = 1024;

/** A canvas of the shape of a picture. */
export function canvasOf({ width, height }: Size): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  const scale = SIDE / Math.max(width, height);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  return canvas;
}

/** A mask as white that is as opaque as the mask is bright. */
export async function readMask(url: string, size: Size): Promise<HTMLCanvasElement> {
  const canvas = canvasOf(size);
  const context = canvas.getContext("2d")!;
  const image = new Image();
  image.src = url;
  await image.decode();
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const read = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = read;
  for (let at = 0; at < data.length; at += 4) {
    data[at + 3] = (data[at]! * data[at + 3]!) / 255;
    data[at] = data[at + 1] = data[at + 2] = 255;
  }
  context.putImageData(read, 0, 0);
  return canvas;
}

/** Draw a mark; of a stroke only the end, from a point on. */
export function draw(canvas: HTMLCanvasElement, mark: Mark, base: HTMLCanvasElement | null, from = 0): void {
  const context = canvas.getContext("2d")!;
  const { width, height } = canvas;
  if (mark.kind === "base") {
    if (base) context.drawImage(base, 0, 0);
    return;
  }
  context.fillStyle = context.strokeStyle = "#fff";
  if (mark.kind === "fill") {
    const [left, top, right, bottom] = mark.box;
    context.fillRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
    return;
  }
  context.globalCompositeOperation = mark.erases ? "destination-out" : "source-over";
  context.lineWidth = mark.size * Math.min(width, height);
  context.lineCap = context.lineJoin = "round";
  const points = mark.points.slice(from).map(({ x, y }): [number, number] => [x * width, y * height]);
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.stroke();
  // A line without length shows nothing.
  context.beginPath();
  context.arc(...points[0]!, context.lineWidth / 2, 0, 2 * Math.PI);
  context.fill();
  context.globalCompositeOperation = "source-over";
}

export function drawAll(canvas: HTMLCanvasElement, marks: Mark[], base: HTMLCanvasElement | null): void {
  canvas.getContext("2d")!.clearRect(0, 0, canvas.width, canvas.height);
  for (const mark of marks) draw(canvas, mark, base);
}

/** The mask that a canvas shows, white on black, and the box around it; null if it is empty. */
export async function maskOf(canvas: HTMLCanvasElement): Promise<{ blob: Blob; box: Box } | null> {
  const { width, height } = canvas;
  const whole = document.createElement("canvas");
  whole.width = width;
  whole.height = height;
  const context = whole.getContext("2d")!;
  context.fillRect(0, 0, width, height);
  context.drawImage(canvas, 0, 0);
  const box = boundsOf(context.getImageData(0, 0, width, height).data, width, height);
  const blob = await new Promise<Blob | null>((resolve) => whole.toBlob(resolve));
  return blob && box && { blob, box };
}
