import { signal } from "@preact/signals";

import type { Kept } from "./kept.ts";
import { nameOf, Picture } from "./results.tsx";
import { other, otherKey, results, shown, shownKey } from "./view.ts";

/** Where the left picture ends, in percent. */
const edge = signal(50);

/** Two pictures, one over the other, with a slider between them. */
export function Compare() {
  const left = shown.value;
  const right = other.value;
  if (!left || !right) return null;
  return (
    <div class="stage compare" role="group" aria-label="Two pictures" style={{ "--wide": left.width, "--tall": left.height, "--edge": `${edge.value}%` }}>
      <Picture result={right} alt={`Right: ${nameOf(right)}`} />
      <div class="left">
        <Picture result={left} alt={`Left: ${nameOf(left)}`} />
      </div>
      <i class="edge" />
      <input
        type="range"
        min={0}
        max={100}
        value={edge.value}
        aria-label="Where the left picture ends"
        aria-valuetext={`${edge.value} percent`}
        onInput={({ currentTarget }) => (edge.value = Number(currentTarget.value))}
      />
    </div>
  );
}

/** Which two pictures. */
export function CompareBar() {
  const { value: left } = shown;
  const { value: right } = other;
  if (!left || !right) return null;
  return (
    <div class="result-bar" role="group" aria-label="The two pictures">
      <Choice label="Left" value={left} but={right} onChoose={(key) => (shownKey.value = key)} />
      <Choice label="Right" value={right} but={left} onChoose={(key) => (otherKey.value = key)} />
    </div>
  );
}

function Choice({ label, value, but, onChoose }: { label: string; value: Kept; but: Kept; onChoose: (key: string) => void }) {
  const all = results.value;
  return (
    <label class="side">
      <span>{label}</span>
      <select value={value.key} onChange={({ currentTarget }) => onChoose(currentTarget.value)}>
        {all.map((result, index) => (
          <option key={result.key} value={result.key} disabled={result.key === but.key}>
            {all.length - index}: seed {result.seed}, {result.document.prompt}
          </option>
        ))}
      </select>
    </label>
  );
}
