import type { VNode } from "preact";

import { spanOf } from "./check.ts";
import { doc, type Subject } from "./document.ts";
import { addToPrompt, choose } from "./prompt.ts";
import { abilities, denied, model, reachable } from "./service.ts";

/** The words for the prompt: each subject's, and for a small model all places and treatments that it knows. */
export function Vocabulary() {
  const known = abilities.value;
  if (!reachable.value) return <p class="hint">The service cannot be reached; trying again …</p>;
  if (denied.value) return <p class="problem">{denied.value}</p>;
  if (model.value && !model.value.ready) return <p class="hint">The model {model.value.name} is being loaded; you can already prepare.</p>;
  // Until then nothing: what comes later would push it down.
  if (!model.value) return null;
  const named = doc.value.subjects.map((subject, index) => ({ subject, index })).filter(({ subject }) => subject.phrase !== "");
  const isSmall = known !== null && known.backgrounds.length > 0;
  return (
    <div class="vocabulary">
      {isSmall && (
        <p class="hint">
          <b>{model.value!.name}</b> is a small model for trying things out: it draws emoji-like subjects, from your pictures, in these places and
          treatments only.
        </p>
      )}
      {named.length > 0 && (
        <Group name="Subjects">
          {named.map(({ subject, index }) => (
            <SubjectChip key={subject.key} subject={subject} index={index} />
          ))}
        </Group>
      )}
      {isSmall && <Chips name="Places" words={known.backgrounds} />}
      {isSmall && <Chips name="Treatments" words={known.treatments} />}
    </div>
  );
}

/** The words of a subject: whether the prompt names it, as the service sees it, and a press that adds it. */
function SubjectChip({ subject: { phrase, colour }, index }: { subject: Subject; index: number }) {
  const span = spanOf(index);
  const missing = span === null;
  return (
    <button
      type="button"
      class="chip subject"
      style={{ "--colour": `var(--c${colour % 8})` }}
      data-missing={missing}
      aria-pressed={!missing}
      aria-label={missing ? `Add ${phrase} to the prompt, which does not name it` : `The prompt names ${phrase}`}
      title={missing ? "The prompt does not name it: press to add it" : "The prompt names it"}
      onClick={() => missing && addToPrompt(phrase)}
    >
      {missing && <span aria-hidden="true">+ </span>}
      {phrase}
    </button>
  );
}

function Chips({ name, words }: { name: string; words: string[] }) {
  return (
    <Group name={name}>
      {words.map((word) => (
        <button key={word} type="button" class="chip" aria-pressed={doc.value.prompt.includes(word)} onClick={() => choose(word, words)}>
          {word}
        </button>
      ))}
    </Group>
  );
}

/** Chips of one kind; a line never ends with the name of the kind. */
function Group({ name, children }: { name: string; children: VNode[] }) {
  const [first, ...others] = children;
  return (
    <div class="chips" role="group" aria-label={name}>
      <span class="first">
        <span class="legend">{name}</span>
        {first}
      </span>
      {others}
    </div>
  );
}
