import { useEffect, useRef } from "preact/hooks";

import { checked, spanOf } from "./check.ts";
import { doc, setPrompt } from "./document.ts";
import { about } from "./durations.ts";
import { Problems } from "./fields.tsx";
import { goTo, nameOf } from "./find.ts";
import { Icon } from "./icons.tsx";
import { shortened } from "./messages.ts";
import { cancel, failure, generate, problems, run, warnings } from "./run.ts";
import { reachable } from "./service.ts";
import { note, notice } from "./view.ts";
import { Vocabulary } from "./vocabulary.tsx";

/** The prompt, what the model knows, and the one button. */
export function Composer() {
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void generate();
      }}
    >
      <div class="prompt-row">
        <label class="prompt">
          <span class="visually-hidden">What the picture shows</span>
          <Marks />
          <textarea
            rows={2}
            data-edits
            data-at="/prompt"
            placeholder="What does the picture show? Name each subject."
            value={doc.value.prompt}
            onInput={({ currentTarget }) => setPrompt(currentTarget.value)}
            onScroll={({ currentTarget }) => (currentTarget.previousElementSibling!.scrollTop = currentTarget.scrollTop)}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
              event.preventDefault();
              void generate();
            }}
          />
        </label>
        <Action />
      </div>
      <Problems at="/prompt" />
      <Summary />
      <Vocabulary />
    </form>
  );
}

/** Marks each phrase where the prompt names it; it lies behind the text. */
function Marks() {
  const { prompt, subjects } = doc.value;
  const characters = [...prompt];
  const spans = subjects
    .map(({ colour }, index) => ({ colour, span: spanOf(index) }))
    .flatMap(({ colour, span }) => (span ? [{ colour, from: span[0], to: span[1] }] : []))
    .sort((a, b) => a.from - b.from);
  let done = 0;
  const parts = spans.map(({ colour, from, to }) => {
    const before = characters.slice(done, from).join("");
    const words = characters.slice(Math.max(from, done), to).join("");
    done = Math.max(done, to);
    return [before, <mark style={{ "--colour": `var(--c${colour % 8})` }}>{words}</mark>];
  });
  return (
    <div class="marks" aria-hidden="true">
      {parts}
    </div>
  );
}

/** The button, or how far its picture is. One has the focus when the other goes with it. */
function Action() {
  const place = useRef<HTMLDivElement>(null);
  const busy = run.value !== null;
  const before = useRef(busy);
  useEffect(() => {
    if (busy !== before.current && document.activeElement === document.body) place.current!.querySelector<HTMLElement>(".generate, .progress")?.focus();
    before.current = busy;
  }, [busy]);
  return (
    <div ref={place} class="action">
      {busy ? <Progress /> : <Generate />}
    </div>
  );
}

function Generate() {
  const { prompt, subjects } = doc.value;
  const seconds = checked.value?.seconds;
  const missing = subjects.length === 0 ? "needs a subject" : prompt.trim() === "" ? "needs a prompt" : undefined;
  return (
    <button type="submit" class="generate" disabled={missing !== undefined}>
      <Icon name="spark" />
      <span>
        Make the picture
        {missing ? <small>{missing}</small> : seconds && <small>{about(seconds)}</small>}
      </span>
    </button>
  );
}

function Progress() {
  const { phase, position, step, steps, fraction, eta, job } = run.value!;
  const waiting = position !== undefined && position !== null;
  const queued = position === 0 ? "Next in the queue" : `${position} ahead in the queue`;
  const stepped = step && steps ? `Step ${step} of ${steps}` : `${phase[0]!.toUpperCase()}${phase.slice(1).replaceAll("_", " ")} …`;
  const words = !reachable.value ? "Waiting for the service …" : waiting ? queued : stepped;
  return (
    <div class="progress" role="group" aria-label="The picture is being made" tabIndex={-1}>
      <div class="progress-words" role="status">
        <span>{words}</span>
        {reachable.value && eta !== undefined && eta !== null && <span class="eta">{about(eta)}</span>}
      </div>
      <progress aria-label="Progress of the picture" value={fraction} max={1} />
      {/* The second press of a double click on the button that was here is none on this one. */}
      <button type="button" class="cancel" onClick={({ detail }) => detail < 2 && void cancel()} disabled={job !== null && phase === "canceling"}>
        Cancel
      </button>
    </div>
  );
}

/** What has just happened. */
function Notice() {
  const { words, takeBack } = notice.value;
  const bringBack = () => {
    note("");
    takeBack!();
  };
  return (
    <div class="notice">
      <p role="status">{words}</p>
      {takeBack && (
        <button type="button" class="link" onClick={bringBack}>
          Bring back
        </button>
      )}
    </div>
  );
}

/** All that is wrong, and what to know before the button is pressed; each leads to its field. */
function Summary() {
  const elsewhere = ({ pointer }: { pointer: string }) => pointer !== "/prompt";
  const items = [
    ...problems.value.filter(elsewhere).map((item) => ({ ...item, kind: "problem" })),
    ...warnings.value.filter(elsewhere).map((item) => ({ ...item, kind: "warning" })),
  ].map((item) => ({ ...item, detail: shortened(item.detail) }));
  return (
    <>
      {failure.value && (
        <p class="problem" role="alert">
          {failure.value}
        </p>
      )}
      <Notice />
      {items.length > 0 && (
        <ul class="summary" aria-label="What to look at">
          {items.map(({ pointer, detail, kind }) => (
            <li key={kind + pointer + detail} class={kind}>
              {pointer === "" ? (
                detail
              ) : (
                <button type="button" title="Go to its field" onClick={() => goTo(pointer)}>
                  <b>{nameOf(pointer)}:</b> {detail}
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
