import { computed, signal } from "@preact/signals";

import { doc, sizeOf } from "./document.ts";
import type { Kept } from "./kept.ts";
import { ownSize } from "./service.ts";

/** What the stage shows: the boxes, one picture, all of them side by side, or two with a slider between them. */
export type View = "layout" | "picture" | "all" | "compare";
export const view = signal<View>("layout");
export type Tab = "subjects" | "options" | "code";
export const tab = signal<Tab>("subjects");
/** What has just happened, if it is not plain to see, and how it is taken back, if it can be. */
export const notice = signal<{ words: string; takeBack?: (() => void) | undefined }>({ words: "" });
const NOTICE_MS = 15_000;
let forgetting: ReturnType<typeof setTimeout> | undefined;
export function note(words: string, takeBack?: () => void): void {
  notice.value = { words, takeBack };
  clearTimeout(forgetting);
  forgetting = setTimeout(() => note(""), NOTICE_MS);
}
/** Of the picture to be made, in pixels. */
export const size = computed(() => sizeOf(doc.value.options, ownSize.value));
/** Of the last picture behind the boxes. */
export const opacity = signal(0.35);
/** Whether a picture shows its boxes without being pointed at. */
export const withBoxes = signal(false);
/** Pictures that were made, the newest first. */
export const results = signal<Kept[]>([]);
/** Key of the one that is shown; the newest by default. */
export const shownKey = signal<string | null>(null);
export const shown = computed(() => results.value.find(({ key }) => key === shownKey.value) ?? results.value[0] ?? null);
/** Key of the one that is compared with it; the one made before it by default. */
export const otherKey = signal<string | null>(null);
export const other = computed(() => {
  const rest = results.value.filter((one) => one !== shown.value);
  const chosen = rest.find(({ key }) => key === otherKey.value);
  return chosen ?? rest[results.value.indexOf(shown.value!)] ?? rest[0] ?? null;
});

const urls = new Map<string, string>();
/** The address of a picture: of its own bytes once they are here, until then of the service's. */
export function urlOf(kept: Kept): string {
  if (!kept.blob) return kept.url;
  let url = urls.get(kept.key);
  if (url === undefined) urls.set(kept.key, (url = URL.createObjectURL(kept.blob)));
  return url;
}

export function show(key: string): void {
  shownKey.value = key;
  view.value = "picture";
}
