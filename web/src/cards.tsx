import { useRef } from "preact/hooks";

import { addCards } from "./arrive.ts";
import { Card } from "./card.tsx";
import { CastPicker } from "./cast-panel.tsx";
import { addSubject, doc, isFull, MAX_SUBJECTS } from "./document.ts";
import { FileInput } from "./fields.tsx";
import { Icon } from "./icons.tsx";
import { warnings } from "./run.ts";

export function Cards() {
  const { subjects } = doc.value;
  return (
    <div class="cards" data-at="/subjects" tabIndex={-1}>
      {subjects.map((subject, index) => (
        <Card key={subject.key} subject={subject} index={index} count={subjects.length} />
      ))}
      <AddCard empty={subjects.length === 0} />
      {isFull.value && <p class="hint">A picture has at most {MAX_SUBJECTS} subjects.</p>}
      {subjects.length > 1 && <p class="hint">The lowest card stands in front.</p>}
      {warnings.value.filter(({ pointer }) => pointer === "/subjects").map(({ detail }) => (
        <p key={detail} class="warning">
          {detail}
        </p>
      ))}
    </div>
  );
}

function AddCard({ empty }: { empty: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class="add" data-empty={empty}>
      <button type="button" class="add-button" disabled={isFull.value} onClick={() => input.current!.click()}>
        <Icon name="plus" />
        <span>
          <b>Add a subject</b>
          <small>Pick a picture, or drop or paste one anywhere</small>
        </span>
      </button>
      <FileInput input={input} label="Pictures of new subjects" onFiles={addCards} />
      <button type="button" class="link" disabled={isFull.value} title="A place that words alone fill: write them on its card" onClick={() => addSubject()}>
        Without a picture
      </button>
      <CastPicker />
    </div>
  );
}
