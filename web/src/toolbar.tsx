import { discard, duplicateFocused } from "./box-view.tsx";
import { CompareBar } from "./compare.tsx";
import { addSubject, chosen, doc, isFull, mayRedo, mayUndo, redo, setSubject, undo } from "./document.ts";
import { Segments } from "./fields.tsx";
import { focusBox } from "./focus.ts";
import { chooseBehind, drawing, snapping } from "./gestures.ts";
import { IconButton } from "./icons.tsx";
import { painted, painter } from "./painting.ts";
import { ResultBar } from "./result-bar.tsx";
import { EmptyHistory } from "./results.tsx";
import { opacity, results, type View, view, withBoxes } from "./view.ts";

const VIEWS: [View, string][] = [
  ["layout", "Layout"],
  ["picture", "Picture"],
];
const OF_SEVERAL: [View, string][] = [
  ["all", "All"],
  ["compare", "Compare"],
];

/** What the stage shows, and what can be done with that. */
export function Toolbar() {
  const made = results.value.length;
  const paints = painted.value && painter.value;
  return (
    <div class="toolbar">
      {view.value === "layout" && (paints ? <paints.PainterTools /> : <Tools />)}
      {view.value === "picture" && <ResultBar />}
      {view.value === "all" && <AllBar />}
      {view.value === "compare" && <CompareBar />}
      {made > 0 && !paints && <Segments label="What the stage shows" value={view.value} options={made > 1 ? [...VIEWS, ...OF_SEVERAL] : VIEWS} onChange={(value) => (view.value = value)} />}
    </div>
  );
}

function AllBar() {
  return (
    <div class="result-bar" role="group" aria-label="All pictures">
      {results.value.length} pictures
      <EmptyHistory />
      <span class="spring" />
      <IconButton icon="draw" label="Show the boxes" pressed={withBoxes.value} onClick={() => (withBoxes.value = !withBoxes.value)} />
    </div>
  );
}

function Tools() {
  return (
    <div class="tools" role="toolbar" aria-label="Tools of the stage">
      <IconButton icon="undo" label="Undo" disabled={!mayUndo.value} onClick={undo} />
      <IconButton icon="redo" label="Redo" disabled={!mayRedo.value} onClick={redo} />
      <i />
      <IconButton icon="plus" label="Add a box in the free middle" disabled={isFull.value} onClick={() => focusBox(addSubject().key)} />
      <IconButton icon="draw" label="Draw a box: drag, or click two corners; with Shift always" disabled={isFull.value} pressed={drawing.value} onClick={() => (drawing.value = !drawing.value)} />
      <IconButton icon="magnet" label="Snap to edges, thirds and each other; not with Alt" pressed={snapping.value} onClick={() => (snapping.value = !snapping.value)} />
      <ToolsOfBox />
      {results.value.length > 0 && (
        <label class="faint" title="The last picture behind the boxes">
          <span class="visually-hidden">Opacity of the last picture behind the boxes</span>
          <input type="range" min={0} max={1} step={0.05} value={opacity.value} onInput={({ currentTarget }) => (opacity.value = Number(currentTarget.value))} />
        </label>
      )}
    </div>
  );
}

/** What can be done with the chosen box. */
function ToolsOfBox() {
  const subject = doc.value.subjects.find(({ key }) => key === chosen.value);
  if (!subject?.box || subject.scene) return null;
  const { key, phrase, locked } = subject;
  const name = phrase || "unnamed";
  return (
    <>
      <i />
      <IconButton icon="behind" label={`Choose the box behind ${name}`} onClick={chooseBehind} />
      <IconButton icon="copy" label={`Duplicate the box of ${name}`} disabled={isFull.value} onClick={() => duplicateFocused(subject)} />
      <IconButton icon={locked ? "lock" : "unlock"} label={`Lock the box of ${name}, so that it cannot be picked`} pressed={!!locked} onClick={() => setSubject(key, { locked: !locked })} />
      <IconButton icon="trash" label={`Remove the box of ${name}`} disabled={!!locked} onClick={() => discard(subject)} />
    </>
  );
}
