import { useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";

import { addressOf } from "./address.ts";
import { BoxKeys, BoxView, placed, Shape } from "./box-view.tsx";
import { doc } from "./document.ts";
import { drawing, drawn, guides, useGestures } from "./gestures.ts";
import { painted, painter } from "./painting.ts";
import { run } from "./run.ts";
import { opacity, shown, size, urlOf } from "./view.ts";

/** The picture with its boxes, which are elements over it. */
export function Stage() {
  const element = useRef<HTMLDivElement>(null);
  const layout = useComputed(() => run.value?.preview === undefined);
  const gestures = useGestures(element, () => layout.value);
  const { width, height } = size.value;
  return (
    <div
      ref={element}
      class="stage"
      role="group"
      aria-label="Picture with its boxes"
      tabIndex={-1}
      data-drawing={drawing.value}
      data-view={layout.value ? "layout" : "preview"}
      style={{ "--wide": width, "--tall": height }}
      {...gestures}
    >
      <Backdrop />
      {doc.value.subjects.map((subject) => (
        <Shape key={subject.key} subject={subject} />
      ))}
      {doc.value.subjects.map((subject, index) => (
        <BoxView key={subject.key} subject={subject} order={index} />
      ))}
      {drawn.value && <div class="box drawn" style={placed(drawn.value)} />}
      {guides.value.x !== undefined && <i class="guide upright" style={{ left: `${guides.value.x * 100}%` }} />}
      {guides.value.y !== undefined && <i class="guide" style={{ top: `${guides.value.y * 100}%` }} />}
      {painted.value && painter.value && <painter.value.Painter />}
      {doc.value.subjects.length === 0 && layout.value && <p class="empty">Draw a box, or drop a picture</p>}
      <BoxKeys />
    </div>
  );
}

/** The live preview, or the picture that was made last, as faint as was chosen. */
function Backdrop() {
  const preview = run.value?.preview;
  if (preview) return <img class="backdrop" src={preview} alt="Preview of the picture that is being made" />;
  const result = shown.value;
  if (!result) return null;
  return <img class="backdrop" src={addressOf(urlOf(result))} alt="" style={{ opacity: opacity.value }} />;
}
