import { effect } from "@preact/signals";

import { chosen, doc } from "./document.ts";
import { afterwards } from "./focus.ts";
import { problems } from "./run.ts";
import { tab } from "./view.ts";

const FIELDS = "input, textarea, select, button";

/** Go to the field of a pointer into the request: open its part of the page, and give it the focus. */
export function goTo(pointer: string): void {
  const [, field, index] = pointer.split("/");
  if (field === "subjects") {
    tab.value = "subjects";
    chosen.value = doc.value.subjects[Number(index)]?.key ?? null;
  } else if (field && field !== "prompt") tab.value = "options";
  afterwards(() => {
    const found = fieldOf(pointer);
    (found?.matches(FIELDS) ? found : (found?.querySelector<HTMLElement>(FIELDS) ?? found))?.focus();
  });
}

/** The element of a pointer, or of the value that it lies in. */
function fieldOf(pointer: string): HTMLElement | null {
  // One picture and several stand in the same place.
  let at = pointer.replace(/^(\/subjects\/\d+)\/images/, "$1/image");
  for (; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
    const found = document.querySelector<HTMLElement>(`[data-at=${JSON.stringify(at)}]`);
    if (found) return found;
  }
  return null;
}

/** What a pointer leads to, in words. */
export function nameOf(pointer: string): string {
  const [, field = "", index] = pointer.split("/");
  if (field === "subjects" && index !== undefined) return doc.value.subjects[Number(index)]?.phrase || `subject ${Number(index) + 1}`;
  return field.replaceAll("_", " ");
}

/** When the service refuses a request, go to the first value that is wrong. */
export function showProblems(): void {
  let before = 0;
  effect(() => {
    const now = problems.value;
    if (before === 0 && now[0]) goTo(now[0].pointer);
    before = now.length;
  });
}
