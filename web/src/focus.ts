/** Places that the focus moves between when one of them goes: boxes on the stage, cards beside it. */
const ITEMS = ".box:has(.grip), .card";
const FIRST = ".grip, .phrase";

/** Once the page shows what has changed. */
export const afterwards = (action: () => void): number => requestAnimationFrame(action);

/** Focus the box of a subject; without one, the stage. */
export function focusBox(key: string): void {
  afterwards(() => (document.querySelector<HTMLElement>(`.grip[data-key="${key}"]`) ?? document.querySelector<HTMLElement>(".stage"))?.focus());
}

/** Do what may remove the place that has the focus; the one that follows it takes it then. */
export function keepFocus(action: () => void): void {
  const before = document.activeElement;
  const region = before?.closest<HTMLElement>(".stage, .cards");
  const item = before?.closest(ITEMS);
  const index = item && region ? [...region.querySelectorAll(ITEMS)].indexOf(item) : 0;
  action();
  afterwards(() => {
    if (!region || before!.isConnected) return;
    const items = region.querySelectorAll(ITEMS);
    const next = items[Math.min(index, items.length - 1)]?.querySelector<HTMLElement>(FIRST);
    (next ?? region).focus();
  });
}
