import { computed, signal } from "@preact/signals";

import { doc } from "./document.ts";
import { view } from "./view.ts";

type Painter = typeof import("./painter.tsx");

/** Key of the subject whose shape is painted. */
export const painting = signal<string | null>(null);
/** That subject; null also if it was removed meanwhile. */
export const painted = computed(() => doc.value.subjects.find(({ key }) => key === painting.value) ?? null);
/** What that needs; loaded when somebody wants to paint. */
export const painter = signal<Painter | null>(null);

export async function paint(key: string): Promise<void> {
  painter.value ??= await import("./painter.tsx");
  view.value = "layout";
  painting.value = key;
}
