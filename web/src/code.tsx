import { signal, useSignalEffect } from "@preact/signals";

import { SERVICE } from "./address.ts";
import { copyText } from "./copy.ts";
import { doc, type Document } from "./document.ts";
import { Segments } from "./fields.tsx";
import { requestOf } from "./request.ts";
import { model } from "./service.ts";
import { type Language, LANGUAGES, type Request, snippet } from "./snippets.ts";

const NEEDS: Record<Language, string> = {
  curl: "Needs python3 to read the answer.",
  Python: "Needs msd-client, from clients/python of the repository.",
  TypeScript: "Needs msd-client, from clients/typescript of the repository; it is plain JavaScript too.",
  OpenAI: "Needs the package openai for Python.",
};
const language = signal<Language>("curl");
const request = signal<Request | null>(null);
const copied = signal(false);
const COPIED_MS = 1500;

/** The request with its pictures as assets, so that it can be sent from anywhere; null while one of them cannot be had. */
async function write(document: Document): Promise<void> {
  const made = await requestOf(document).catch(() => null);
  if (document === doc.peek()) request.value = made as Request | null;
}

export function CodePanel() {
  useSignalEffect(() => void write(doc.value));
  const text = request.value ? snippet(language.value, request.value, SERVICE, model.value?.name ?? "mini") : "";
  return (
    <div class="code">
      <div class="code-head">
        <Segments label="Language" value={language.value} options={LANGUAGES.map((name) => [name, name])} onChange={(name) => (language.value = name)} />
        <button type="button" class="link" onClick={() => void copy(text)}>
          {copied.value ? "Copied" : "Copy"}
        </button>
      </div>
      {request.value === null && <p class="hint">The code stands here once the service has all pictures.</p>}
      <pre tabIndex={0} role="region" hidden={request.value === null} aria-label={`The request for ${language.value}`}>
        <code>{text}</code>
      </pre>
      <p class="hint">
        {NEEDS[language.value]} The pictures are on the service, for some days after their last use.
      </p>
    </div>
  );
}

async function copy(text: string): Promise<void> {
  copied.value = await copyText(text);
  setTimeout(() => (copied.value = false), COPIED_MS);
}
