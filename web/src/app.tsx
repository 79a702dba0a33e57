import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { SERVICE } from "./address.ts";
import { arrive, arriveText } from "./arrive.ts";
import { Cards } from "./cards.tsx";
import { CodePanel } from "./code.tsx";
import { Compare } from "./compare.tsx";
import { Composer } from "./composer.tsx";
import { chosen, edit, redo, spoken, undo } from "./document.ts";
import { EXAMPLES } from "./examples.ts";
import { Segments } from "./fields.tsx";
import { keepFocus } from "./focus.ts";
import { KeyDialog, SignOut } from "./key.tsx";
import { OptionsPanel } from "./options.tsx";
import { jsonIn, picturesIn } from "./pictures.ts";
import { Gallery, PictureView, Strip } from "./results.tsx";
import { problems } from "./run.ts";
import { denied, model, reachable } from "./service.ts";
import { Stage } from "./stage.tsx";
import { Toolbar } from "./toolbar.tsx";
import { note, size, type Tab, tab, view } from "./view.ts";

const TABS: [Tab, string][] = [
  ["subjects", "Subjects"],
  ["options", "Options"],
  ["code", "Code"],
];
/** Whether a file is over the page. */
const over = signal(false);

export function App() {
  useEffect(listen, []);
  const { width, height } = size.value;
  return (
    <>
      <Header />
      <main>
        <section class="well" aria-label="Stage" data-view={view.value} style={{ "--wide": width, "--tall": height }}>
          <Toolbar />
          <div class="room">
            <Strip />
            <div class="middle">
              {view.value === "layout" && <Stage />}
              {view.value === "picture" && <PictureView />}
              {view.value === "all" && <Gallery />}
              {view.value === "compare" && <Compare />}
            </div>
          </div>
        </section>
        <Composer />
        <Side />
      </main>
      <Footer />
      <KeyDialog />
      <div class="visually-hidden" aria-live="polite">
        {spoken.value}
      </div>
      {over.value && <div class="drop">Drop a picture: it becomes a subject</div>}
    </>
  );
}

function Header() {
  const { value } = model;
  const state = !reachable.value || denied.value ? "away" : value?.ready ? "ready" : "loading";
  return (
    <header>
      <h1>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <rect x="2" y="8" width="11" height="11" rx="2.5" />
          <rect x="11" y="4" width="11" height="11" rx="2.5" />
        </svg>
        MS-Diffusion
      </h1>
      <span class="model" data-state={state}>
        {value?.name ?? "model"} {denied.value ? "is not for this key" : state === "away" ? "cannot be reached" : state}
      </span>
      <label class="examples">
        <span class="visually-hidden">Examples</span>
        <select
          value=""
          onChange={({ currentTarget }) => {
            const example = EXAMPLES.find(({ name }) => name === currentTarget.value);
            currentTarget.value = "";
            if (!example) return;
            edit(() => example.document);
            chosen.value = null;
            view.value = "layout";
          }}
        >
          <option value="">Examples</option>
          {EXAMPLES.map(({ name }) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <a href={`${SERVICE}/docs`}>API</a>
      <SignOut />
    </header>
  );
}

function Side() {
  return (
    <aside>
      <Segments label="Parts of the request" value={tab.value} options={TABS.map(([name, words]) => [name, words + badge(name)])} onChange={(name) => (tab.value = name)} />
      {tab.value === "subjects" && <Cards />}
      {tab.value === "options" && <OptionsPanel />}
      {tab.value === "code" && <CodePanel />}
    </aside>
  );
}

/** Marks a tab that is not open and has an error. */
function badge(name: Tab): string {
  const wrong = problems.value.some(({ pointer }) =>
    name === "subjects" ? pointer.startsWith("/subjects") : name === "options" && !/^\/(subjects|prompt|$)/.test(pointer),
  );
  return wrong && tab.value !== name ? " ●" : "";
}

function Footer() {
  return (
    <footer>
      Pictures of the examples: <a href="https://openmoji.org">OpenMoji</a>, CC BY-SA 4.0
    </footer>
  );
}

/** What may happen anywhere on the page. */
function listen(): () => void {
  const gone = new AbortController();
  const options = { signal: gone.signal };
  const hasFiles = ({ dataTransfer }: DragEvent) => !!dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over.value = true;
  }, options);
  addEventListener("dragleave", (event) => event.relatedTarget === null && (over.value = false), options);
  addEventListener("drop", (event) => {
    over.value = false;
    if (event.defaultPrevented) return;
    if (hasFiles(event)) event.preventDefault();
    const files = picturesIn(event.dataTransfer);
    if (files.length > 0) void arrive(files);
    else void jsonIn(event.dataTransfer)?.text().then((text) => arriveJson(text) || note("This file is no JSON."));
  }, options);
  addEventListener("paste", (event) => {
    const files = picturesIn(event.clipboardData);
    const text = event.clipboardData?.getData("text/plain") ?? "";
    const typing = isTyping(event);
    // Word processors add a picture of the words.
    if (files.length > 0 && !(typing && text !== "")) void arrive(files);
    else if (typing ? arriveText(text) : arriveJson(text)) event.preventDefault();
  }, options);
  addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    // Other fields of text hold what is no edit yet; the browser undoes that.
    const typing = isTyping(event) && !(event.target as HTMLElement).matches("[data-edits]");
    if (typing || event.altKey || !(event.ctrlKey || event.metaKey) || (key !== "z" && key !== "y")) return;
    event.preventDefault();
    keepFocus(key === "y" || event.shiftKey ? redo : undo);
  }, options);
  return () => gone.abort();
}

const isTyping = ({ target }: Event): boolean => (target as Element).matches("input:not([type=range], [type=checkbox]), textarea");

/** Show what JSON describes, or say that it describes nothing; whether it is JSON. */
function arriveJson(text: string): boolean {
  if (arriveText(text)) return true;
  if (!/^\s*[[{]/.test(text)) return false;
  note("This JSON is no request, no layout of Ideogram and no list of boxes.");
  return true;
}
